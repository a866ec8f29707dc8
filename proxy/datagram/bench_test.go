package datagram

import (
	"bytes"
	"context"
	"net"
	"testing"
)

// roundTrip sends a datagram through the relay and reads its echo.
func roundTrip(tb testing.TB, c client, payload, buf []byte) {
	if _, err := c.Write(payload); err != nil {
		tb.Fatal(err)
	}
	if _, err := c.Read(buf); err != nil {
		tb.Fatal(err)
	}
}

func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates
	}
	o := to(vm(t, "127.0.0.1:0", echo))
	c := dialed(t, served(t, relayed(t, Limits{}), ":0", o).Addr())
	payload, buf := bytes.Repeat([]byte("x"), 1200), make([]byte, largest)
	roundTrip(t, c, payload, buf)
	if n := testing.AllocsPerRun(2000, func() { roundTrip(t, c, payload, buf) }); n >= 1 {
		t.Errorf("%v allocations for each datagram and its answer", n)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	o := to(vm(b, "127.0.0.1:0", echo))
	c := dialed(b, served(b, relayed(b, Limits{}), "127.0.0.1:0", o).Addr())
	payload, buf := bytes.Repeat([]byte("x"), 1200), make([]byte, largest)
	b.SetBytes(int64(2 * len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		roundTrip(b, c, payload, buf)
	}
}

// BenchmarkBatch has 32 datagrams and their answers under way at once.
func BenchmarkBatch(b *testing.B) {
	target := Target{VM: vm(b, "127.0.0.1:0", echo)}
	c := dialed(b, served(b, relayed(b, Limits{}), "127.0.0.1:0", bare(target)).Addr())
	payload, buf := bytes.Repeat([]byte("x"), 1200), make([]byte, largest)
	roundTrip(b, c, payload, buf)
	b.SetBytes(int64(2 * 32 * len(payload)))
	b.ReportAllocs()
	for b.Loop() {
		for range 32 {
			if _, err := c.Write(payload); err != nil {
				b.Fatal(err)
			}
		}
		for range 32 {
			if _, err := c.Read(buf); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkSession is the life of a session of one question and one answer.
func BenchmarkSession(b *testing.B) {
	target := Target{VM: vm(b, "127.0.0.1:0", echo)}
	l := served(b, relayed(b, Limits{PerClient: 100}), "127.0.0.1:0", bare(target))
	payload, buf := []byte("question"), make([]byte, largest)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(l.Addr()))
		if err != nil {
			b.Fatal(err)
		}
		roundTrip(b, client{c, b}, payload, buf)
		c.Close()
	}
}

// bare is a route whose sessions tell nobody.
type bare Target

func (t bare) Open(context.Context, *Session) (Target, error) { return Target(t), nil }
