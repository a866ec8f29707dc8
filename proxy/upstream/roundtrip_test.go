package upstream

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

func wantAnswer(t *testing.T, p *Pool, ex *message.Exchange, want string) {
	t.Helper()
	if got, err := answer(t, p, ex); err != nil || got != want {
		t.Errorf("%s: got %q, %v; want %q", ex.Request.Method, got, err, want)
	}
}

func wantError(t *testing.T, err error, side message.Side, status int) {
	t.Helper()
	var e *message.Error
	if !errors.As(err, &e) || e.Side != side || e.Status != status {
		t.Errorf("got %v, want a %d of %v", err, status, side)
	}
}

func TestOneConnectionServesManyExchanges(t *testing.T) {
	var conns atomic.Int32
	v := newVM(t, "127.0.0.1:0", func(n int, c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		serve(n, c, r)
	})
	p := pool(t, spec(v.address()), Dialer{})
	for range 5 {
		wantAnswer(t, p, exchange("GET", ""), "GET ")
		wantAnswer(t, p, exchange("POST", "data"), "POST data")
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 10 exchanges", n)
	}
	if s := p.Backends()[0].State(); s.Active != 0 || s.Idle != 1 || s.Failing {
		t.Errorf("state %+v", s)
	}
}

// TestStaleConnection closes a kept connection just when a request is on it.
func TestStaleConnection(t *testing.T) {
	dropped := func(n int, c net.Conn, r *bufio.Reader) {
		if n == 1 {
			serveOne(c, r, "")
			http.ReadRequest(r) // the second request gets no answer
			return
		}
		serve(n, c, r)
	}
	t.Run("idempotent requests are repeated", func(t *testing.T) {
		for _, method := range []string{"GET", "PUT", "DELETE"} {
			v := newVM(t, "127.0.0.1:0", dropped)
			p := pool(t, spec(v.address()), Dialer{})
			wantAnswer(t, p, exchange("GET", ""), "GET ")
			wantAnswer(t, p, exchange(method, "body"), method+" body")
		}
	})
	t.Run("others are not", func(t *testing.T) {
		v := newVM(t, "127.0.0.1:0", dropped)
		p := pool(t, spec(v.address()), Dialer{})
		wantAnswer(t, p, exchange("GET", ""), "GET ")
		_, err := answer(t, p, exchange("POST", "body"))
		wantError(t, err, message.VMSide, 502)
	})
}

func TestHeldWhileTheVMRestarts(t *testing.T) {
	a := freePort(t)
	p := pool(t, spec(a), Dialer{Dial: func(ctx context.Context, network, address string) (*socket.Socket, error) {
		return socket.Dial(ctx, network, address)
	}})
	done := make(chan error, 1)
	ex := exchange("POST", "precious")
	go func() {
		got, err := answer(t, p, ex)
		if got != "POST precious" {
			err = errors.Join(err, errors.New(got))
		}
		done <- err
	}()
	waitFor(t, func() bool { return p.Backends()[0].State().Failing })
	newVM(t, net.JoinHostPort(a.Host, itoa(a.Port)), serve)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestHoldEnds(t *testing.T) {
	s := spec(freePort(t))
	s.Hold = 300 * time.Millisecond
	p := pool(t, s, Dialer{})
	start := time.Now()
	_, err := answer(t, p, exchange("GET", ""))
	wantError(t, err, message.VMSide, 502)
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v does not say why", err)
	}
	var e *message.Error
	if errors.As(err, &e) && e.RetryAfter != heldAgain {
		t.Errorf("come again after %v", e.RetryAfter)
	}
	if took := time.Since(start); took < 250*time.Millisecond || took > 4*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestAHeldClientMayLeave(t *testing.T) {
	s := spec(freePort(t))
	s.Hold = time.Hour
	p := pool(t, s, Dialer{})
	ex := exchange("GET", "")
	done := make(chan error, 1)
	go func() {
		_, err := answer(t, p, ex)
		done <- err
	}()
	waitFor(t, func() bool { return p.Backends()[0].State().Failing })
	ex.Stream.(*client).leave()
	wantError(t, <-done, message.ClientSide, 0)
}

func TestAnotherBackendServes(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	p := pool(t, spec(freePort(t), v.address(), freePort(t)), Dialer{})
	start := time.Now()
	for range 20 {
		wantAnswer(t, p, exchange("POST", "x"), "POST x")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("20 requests beside dead backends took %v", took)
	}
}

func TestABadAnswerIsNotRepeated(t *testing.T) {
	var conns atomic.Int32
	v := newVM(t, "127.0.0.1:0", func(_ int, c net.Conn, r *bufio.Reader) {
		conns.Add(1)
		http.ReadRequest(r)
		c.Write([]byte("garbage\r\n\r\n"))
	})
	p := pool(t, spec(v.address()), Dialer{})
	_, err := answer(t, p, exchange("GET", ""))
	wantError(t, err, message.VMSide, 502)
	if n := conns.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestASilentVMIs504(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", func(_ int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		r.ReadByte()
	})
	s := spec(v.address())
	s.ResponseHead = 50 * time.Millisecond
	p := pool(t, s, Dialer{})
	_, err := answer(t, p, exchange("GET", ""))
	wantError(t, err, message.VMSide, 504)
}

// TestIdentity: connections that stand for one client never serve another.
func TestIdentity(t *testing.T) {
	t.Run("PROXY header", func(t *testing.T) {
		var heads atomic.Value
		heads.Store("")
		v := newVM(t, "127.0.0.1:0", func(n int, c net.Conn, r *bufio.Reader) {
			line, _ := r.ReadString('\n')
			heads.Store(heads.Load().(string) + line)
			serve(n, c, r)
		})
		s := spec(v.address())
		s.ProxyProtocol = "v1"
		p := pool(t, s, Dialer{})
		one, other := exchange("GET", ""), exchange("GET", "")
		other.Client.Addr = netip.MustParseAddrPort("192.0.2.9:99")
		wantAnswer(t, p, one, "GET ")
		wantAnswer(t, p, other, "GET ")
		again := exchange("GET", "")
		again.Client = one.Client
		wantAnswer(t, p, again, "GET ")
		if got := heads.Load().(string); got != "PROXY TCP4 192.0.2.1 192.0.2.2 1234 443\r\nPROXY TCP4 192.0.2.9 192.0.2.2 99 443\r\n" {
			t.Errorf("headers %q", got)
		}
		one.Client.Close()
		other.Client.Close()
	})
	t.Run("NTLM", func(t *testing.T) {
		var conns atomic.Int32
		v := newVM(t, "127.0.0.1:0", func(_ int, c net.Conn, r *bufio.Reader) {
			conns.Add(1)
			for serveOne(c, r, "NTLM") {
			}
		})
		p := pool(t, spec(v.address()), Dialer{})
		one, other := exchange("GET", ""), exchange("GET", "")
		wantAnswer(t, p, one, "GET ")
		wantAnswer(t, p, other, "GET ")
		if n := conns.Load(); n != 2 {
			t.Errorf("%d connections for two clients", n)
		}
		one.Client.Close()
		other.Client.Close()
	})
}

func TestOwnListenersAreNotDialed(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	s := spec(v.address())
	s.Forbid = &Own{Has: func(a netip.AddrPort) bool { return a.String() == v.l.Addr().String() }}
	_, err := pool(t, s, Dialer{}).Dial(context.Background(), &message.Client{}, 0, nil)
	if !errors.Is(err, errOwn) {
		t.Errorf("got %v", err)
	}
}

func TestPlanKeepsEqualPools(t *testing.T) {
	a := spec(Address{Host: "127.0.0.1", Port: 1})
	b := spec(Address{Host: "127.0.0.1", Port: 2})
	first := NewSet(Dialer{}).Plan()
	pa, _ := first.Pool(a)
	pb, _ := first.Pool(b)
	set, _ := first.Done()
	next := set.Plan()
	if again, _ := next.Pool(spec(Address{Host: "127.0.0.1", Port: 1})); again != pa {
		t.Error("an equal spec got another pool")
	}
	if _, dropped := next.Done(); len(dropped) != 1 || dropped[0] != pb {
		t.Errorf("dropped %v", dropped)
	}
}

// waitFor polls a condition that another goroutine brings about.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain")
		}
	}
}

func itoa(p uint16) string {
	return strings.TrimPrefix(netip.AddrPortFrom(netip.IPv4Unspecified(), p).String(), "0.0.0.0:")
}
