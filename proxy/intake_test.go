package proxy

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/telemetry"
)

// clientHello is one for a server name, as crypto/tls sends it.
func clientHello(t testing.TB, name string) []byte {
	t.Helper()
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		tls.Client(near, &tls.Config{ServerName: name, NextProtos: []string{"h2"}}).Handshake()
		near.Close()
	}()
	b := make([]byte, 16<<10)
	n, err := far.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// mouth is an Intake with a listener; takes tells of every connection whether
// something was left to do.
type mouth struct {
	*gate
	addr  string
	takes chan bool
}

// newMouth has the passthrough site pass.test with that VM, and the terminated
// site a.test.
func newMouth(t *testing.T, vm upstream.Address, d upstream.Dialer) *mouth {
	g := newGate(t, newCertificate(t, "a.test"), func(_ *Snapshot, sites map[string]*Site, _ *upstream.Plan) {
		plan := upstream.NewSet(d).Plan()
		sites["pass.test"] = &Site{Passthrough: true, Pool: poolTo(t, plan, vm)}
		sites["*.wild.test"] = &Site{Passthrough: true, Pool: poolTo(t, plan, vm)}
		sites["broken.test"] = &Site{Passthrough: true, Pool: poolTo(t, plan, vm), Fault: "no"}
	})
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	m := &mouth{gate: g, addr: l.Addr().String(), takes: make(chan bool, 100)}
	group.Go(func() {
		in := g.proxy.NewIntake(ctx)
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			s.WaitReadable(time.Now().Add(time.Second))
			rest := in.Take(s)
			m.takes <- rest != nil
			if rest != nil {
				group.Go(rest)
			}
		}
	})
	t.Cleanup(func() { l.Close(); cancel(); group.Wait() })
	return m
}

// send opens a connection that begins so.
func (m *mouth) send(b []byte) *net.TCPConn {
	m.t.Helper()
	c, err := net.Dial("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := c.Write(b); err != nil {
		m.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ended waits until no connection is left and all were counted.
func (m *mouth) ended() {
	m.t.Helper()
	for end := time.Now().Add(15 * time.Second); m.metrics.Tunnels() > 0 || m.metrics.Connections(telemetry.HTTPS) > 0; {
		if time.Now().After(end) {
			m.t.Fatalf("%d tunnels, %d connections", m.metrics.Tunnels(), m.metrics.Connections(telemetry.HTTPS))
		}
		time.Sleep(time.Millisecond)
	}
}

var direct = upstream.Dialer{Begin: new(socket.Dialer).Begin, Finish: new(socket.Dialer).Finish}

// parrot is a VM that says everything back and then closes.
func parrot(t *testing.T) upstream.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	t.Cleanup(func() { l.Close(); group.Wait() })
	return address(l.Addr())
}

func TestIntakePassesAtOnce(t *testing.T) {
	m := newMouth(t, parrot(t), direct)
	for _, name := range []string{"pass.test", "PASS.test", "x.wild.test"} {
		first := clientHello(t, name)
		c := m.send(first)
		c.Write([]byte("and more"))
		c.CloseWrite()
		if b, err := io.ReadAll(c); string(b) != string(first)+"and more" || err != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
		if <-m.takes {
			t.Errorf("%s: a goroutine is needed", name)
		}
	}
	m.ended()
	m.proxy.WaitTunnels()
	log := m.lines()
	for _, want := range []string{`"sni":"pass.test"`, `"sni":"x.wild.test"`, `"alpn":"h2"`, `"closed_by":"client"`} {
		if !strings.Contains(log, want) {
			t.Errorf("%s is not in %s", want, log)
		}
	}
}

// TestIntakeLeavesTheRest is what the goroutine of ServeTLS does as before.
func TestIntakeLeavesTheRest(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	const unrecognized, internal, decode = "15030100020270", "15030100020250", "15030100020232"
	for what, c := range map[string]struct {
		vm    upstream.Address
		send  []byte
		alert string
		cause string
	}{
		"unknown name":   {parrot(t), clientHello(t, "other.test"), unrecognized, "unknown_name"},
		"quarantined":    {parrot(t), clientHello(t, "broken.test"), internal, "quarantined"},
		"VM refuses":     {address(closed.Addr()), clientHello(t, "pass.test"), internal, "backend_down"},
		"broken hello":   {parrot(t), []byte("\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"), decode, "bad_hello"},
		"not TLS at all": {parrot(t), []byte("GET / HTTP/1.1\r\n\r\n"), "", "not_tls"},
	} {
		t.Run(what, func(t *testing.T) {
			m := newMouth(t, c.vm, direct)
			conn := m.send(c.send)
			b, err := io.ReadAll(conn)
			if err != nil || c.alert != "" && hex.EncodeToString(b) != c.alert && hex.EncodeToString(b) != strings.Replace(c.alert, "150301", "150303", 1) {
				t.Errorf("%x, %v", b, err)
			}
			conn.Close()
			if !<-m.takes {
				t.Error("nothing was left to do")
			}
			if log := m.lines(); !strings.Contains(log, `"`+c.cause+`"`) {
				t.Errorf("%s is not in %s", c.cause, log)
			}
		})
	}
}

// TestIntakeOfALateHello: it comes before what is left to do begins, or after.
func TestIntakeOfALateHello(t *testing.T) {
	for _, late := range []bool{false, true} {
		m := newMouth(t, parrot(t), direct)
		l, err := socket.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		m.addr = l.Addr().String()
		c := m.send(nil)
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		rest := m.proxy.NewIntake(t.Context()).Take(s)
		if rest == nil {
			t.Fatal("nothing is left to do")
		}
		first := clientHello(t, "pass.test")
		var group sync.WaitGroup
		if late {
			group.Go(rest)
		}
		c.Write(first)
		if !late {
			s.WaitReadable(time.Now().Add(10 * time.Second))
			rest()
		}
		c.CloseWrite()
		if b, err := io.ReadAll(c); string(b) != string(first) || err != nil {
			t.Errorf("late %v: %d bytes, %v", late, len(b), err)
		}
		group.Wait()
		m.ended()
	}
}

// TestIntakeFinishes is a VM that does not answer the connect at once.
func TestIntakeFinishes(t *testing.T) {
	slow := direct
	slow.Begin = func(netip.AddrPort, []byte) (int, int, error) { return -1, 0, socket.ErrWait }
	slow.Finish = func(ctx context.Context, to netip.AddrPort, _ int) (*socket.Socket, error) {
		return socket.Dial(ctx, "tcp", to.String())
	}
	m := newMouth(t, parrot(t), slow)
	first := clientHello(t, "pass.test")
	c := m.send(first)
	c.CloseWrite()
	if b, err := io.ReadAll(c); string(b) != string(first) || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	if !<-m.takes {
		t.Error("nothing was left to do")
	}
	m.ended()
}

// TestIntakeAbort ends a tunnel from outside, and passes a reset on.
func TestIntakeAbort(t *testing.T) {
	m := newMouth(t, parrot(t), direct)
	first := clientHello(t, "pass.test")
	c := m.send(first)
	if _, err := io.ReadFull(c, make([]byte, len(first))); err != nil {
		t.Fatal(err)
	}
	if <-m.takes {
		t.Error("a goroutine is needed")
	}
	m.proxy.Abort("usher stops")
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("err = %v", err)
	}
	m.proxy.WaitTunnels()
	if log := m.lines(); !strings.Contains(log, `"reason":"usher stops"`) {
		t.Error(log)
	}
}

// BenchmarkHelloFound is finding the name in a hello.
func BenchmarkHelloFound(b *testing.B) {
	p := New(Options{Tunnels: &tunnel.Relay{}})
	in := p.NewIntake(context.Background())
	first := clientHello(b, "pass.test")
	b.ReportAllocs()
	for b.Loop() {
		if !in.hello.Find(first) || string(serverNameIn(in.name[:0], in.hello.ServerName)) != "pass.test" {
			b.Fatal("not found")
		}
	}
}
