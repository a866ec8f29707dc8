package h3

import (
	"context"
	"testing"

	"usher/proxy/message"
)

var (
	benchRequest = get("user-agent", "bench/1.0", "accept", "*/*", "accept-language", "en", "cookie", "a=b")
	benchBody    = make([]byte, 500)
)

// small answers as a VM would.
func small(_ context.Context, ex *message.Exchange) {
	r := &ex.Response
	r.Header.AddString("Content-Type", "text/plain")
	r.Header.AddString("Server", "vm")
	answer(ex, 200, benchBody)
}

// ownAllocations is what the strings and the decoder of qpack cost for each
// request of the benchmark; everything else is reused. quic-go adds about
// fifty for a stream, see BenchmarkConnection.
const ownAllocations = 5

func TestAllocations(t *testing.T) {
	c := bare(&handler{serve: small})
	f := &fake{}
	n := testing.AllocsPerRun(1000, func() {
		f.in = benchRequest
		c.run(f)
	})
	if n > ownAllocations && !raceEnabled {
		t.Errorf("%v allocations for a request, more than %d", n, ownAllocations)
	}
}

// BenchmarkExchange is everything but quic-go.
func BenchmarkExchange(b *testing.B) {
	c := bare(&handler{serve: small})
	f := &fake{}
	b.ReportAllocs()
	for b.Loop() {
		f.in = benchRequest
		c.run(f)
	}
}

// BenchmarkConnection is one request after another over loopback, the client
// included.
func BenchmarkConnection(b *testing.B) {
	s := start(b, &handler{serve: small})
	c := s.greeted()
	buf := make([]byte, 4<<10)
	b.ReportAllocs()
	for b.Loop() {
		str := c.send(benchRequest)
		for {
			if _, err := str.Read(buf); err != nil {
				break
			}
		}
	}
}
