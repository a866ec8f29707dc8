package datagram

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// relayed is a running Relay; it ends with the test.
func relayed(t testing.TB, l Limits) *Relay {
	t.Helper()
	r, err := New(l, netip.Addr.IsLoopback)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if n := r.Sessions(); n != 0 {
			t.Errorf("%d sessions after the end", n)
		}
	})
	return r
}

// route is an Opener that sends everything to one address.
type route struct {
	target  Target
	opened  atomic.Int64
	answers atomic.Int64
	refused chan error
	ended   chan Result
	choose  func(context.Context, *Session) error // nil: at once
}

func to(vm netip.AddrPort) *route {
	return &route{target: Target{VM: vm}, refused: make(chan error, 100), ended: make(chan Result, 100)}
}

func (o *route) Open(ctx context.Context, s *Session) (Target, error) {
	o.opened.Add(1)
	if o.choose != nil {
		if err := o.choose(ctx, s); err != nil {
			return Target{}, err
		}
	}
	target := o.target
	target.Refused = func(err error) { o.refused <- err }
	target.Answered = func() { o.answers.Add(1) }
	target.Ended = func(r Result) { o.ended <- r }
	return target, nil
}

// served is a listener at an address with that route.
func served(t testing.TB, r *Relay, address string, o Opener) *Listener {
	t.Helper()
	l, err := r.Listen(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	if err := l.Serve(ctx, o); err != nil {
		t.Fatal(err)
	}
	return l
}

// vm is a UDP socket that answers each datagram with f of it, or not at all.
func vm(t testing.TB, at string, f func([]byte) []byte) netip.AddrPort {
	t.Helper()
	c := packets(t, at)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, largest)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if answer := f(buf[:n]); err == nil && answer != nil {
				c.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	t.Cleanup(func() {
		c.Close()
		<-done
	})
	return addrOf(c)
}

func echo(b []byte) []byte   { return b }
func silent(b []byte) []byte { return nil }

func packets(t testing.TB, at string) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func addrOf(c *net.UDPConn) netip.AddrPort {
	a := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// client is a connected socket: it hears nobody but whom it sends to.
type client struct {
	*net.UDPConn
	t testing.TB
}

func dialed(t testing.TB, addr netip.AddrPort) client { return dialedFrom(t, "", addr) }

func dialedFrom(t testing.TB, ip string, addr netip.AddrPort) client {
	t.Helper()
	d := net.Dialer{}
	if ip != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(ip)}
	}
	c, err := d.Dial("udp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return client{c.(*net.UDPConn), t}
}

func (c client) say(s string) {
	c.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

func (c client) hear(want string) {
	c.t.Helper()
	buf := make([]byte, largest)
	c.SetReadDeadline(time.Now().Add(patience))
	n, err := c.Read(buf)
	if err != nil || string(buf[:n]) != want {
		c.t.Fatalf("heard %.60q, %v; want %.60q", buf[:n], err, want)
	}
}

// ask says something that is echoed.
func (c client) ask(s string) {
	c.t.Helper()
	c.say(s)
	c.hear(s)
}

func result(t testing.TB, o *route) Result {
	t.Helper()
	select {
	case r := <-o.ended:
		return r
	case <-time.After(patience):
		t.Fatal("no session ended")
		return Result{}
	}
}

// eventually waits for a state that another goroutine or the kernel brings
// about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}
