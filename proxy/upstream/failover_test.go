package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/upstream/health"
)

// deaf is a VM behind a link that was cut: it takes what is sent and says
// nothing.
func deaf(_ int, _ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) }

// checks is a Checker whose verdicts the test gives, every millisecond.
type checks struct {
	*health.Checker
	sick sync.Map // addresses
}

func newChecks(t *testing.T) *checks {
	c := &checks{}
	c.Checker = health.New(health.Options{Make: func(_ context.Context, _ health.Check, address string) error {
		if _, sick := c.sick.Load(address); sick {
			return errTest
		}
		return nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { c.Run(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })
	return c
}

// check has every backend checked each millisecond.
func check(s *Spec) {
	for i := range s.Addresses {
		s.Addresses[i].Health = &health.Check{Kind: health.TCP, Interval: time.Millisecond, Timeout: time.Second, Rise: 1, Fall: 1}
	}
}

// TestChecksSaveWhatWaits: a GET that waits for an answer which never comes goes
// elsewhere once the checks fail; a POST waits on.
func TestChecksSaveWhatWaits(t *testing.T) {
	for _, name := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan bool, 10)
			silent := newVM(t, "127.0.0.1:0", func(n int, c net.Conn, r *bufio.Reader) {
				asked <- true
				if name == "HTTP/2" {
					c.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")) // SETTINGS
				}
				deaf(n, c, r)
			})
			var conns atomic.Int32
			good, _ := h2VM(t, false, &conns)
			if name == "HTTP/1.1" {
				good = newVM(t, "127.0.0.1:0", serve).address()
			}
			good.Backup = true // so that everything goes to the silent one first
			c := newChecks(t)
			s := spec(silent.address(), good)
			s.HTTP2 = name == "HTTP/2"
			check(&s)
			p := pool(t, s, Dialer{Checker: c.Checker})
			done, post := make(chan error, 1), make(chan error, 1)
			go func() { _, err := answer(t, p, exchange("GET", "")); done <- err }()
			<-asked
			ex := exchange("POST", "x")
			go func() { _, err := answer(t, p, ex); post <- err }()
			if name == "HTTP/1.1" {
				<-asked
			} else {
				waitFor(t, func() bool { return p.Backends()[0].active.Load() == 2 })
			}
			b := p.Backends()[0]
			waitFor(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.waiting) == 1 })
			c.sick.Store(silent.l.Addr().String(), true)
			if err := <-done; err != nil {
				t.Error(err)
			}
			select {
			case err := <-post:
				t.Errorf("the POST ended: %v", err)
			default:
			}
			if s := b.State(); s.Status != "unhealthy" || s.Why != errTest.Error() || s.Retries != 1 || s.Since.IsZero() {
				t.Errorf("state %+v", s)
			}
			c.sick.Delete(silent.l.Addr().String())
			waitFor(t, func() bool { return b.State().Status == "healthy" })
			ex.Stream.(*client).leave()
			<-post
		})
	}
}

// TestAllUnhealthy: better try than refuse.
func TestAllUnhealthy(t *testing.T) {
	v, w := newVM(t, "127.0.0.1:0", serve), newVM(t, "127.0.0.1:0", serve)
	c := newChecks(t)
	c.sick.Store(v.l.Addr().String(), true)
	c.sick.Store(w.l.Addr().String(), true)
	s := spec(v.address(), w.address())
	check(&s)
	p := pool(t, s, Dialer{Checker: c.Checker})
	waitFor(t, func() bool { return p.Backends()[0].unhealthy() && p.Backends()[1].unhealthy() })
	wantAnswer(t, p, exchange("POST", "x"), "POST x")
	c.sick.Delete(w.l.Addr().String())
	waitFor(t, func() bool { return !p.Backends()[1].unhealthy() })
	for range 20 {
		if b, _ := p.choose(asks(nil)); b != p.Backends()[1] {
			t.Fatal("work for the unhealthy one")
		}
	}
}

// hangs dials one address never.
func hangs(address string, late *atomic.Int32) Dialer {
	return Dialer{Dial: func(ctx context.Context, network, to string) (*socket.Socket, error) {
		if to != address {
			return socket.Dial(ctx, network, to)
		}
		<-ctx.Done()
		late.Add(1)
		return nil, ctx.Err()
	}}
}

// TestConnectsDoNotWaitForADeadLink: after a quarter of a second another
// backend is tried as well, and the one that hangs gets nothing for a while.
func TestConnectsDoNotWaitForADeadLink(t *testing.T) {
	for _, what := range []string{"request", "HTTP/2", "tunnel"} {
		t.Run(what, func(t *testing.T) {
			var conns atomic.Int32
			good, _ := h2VM(t, false, &conns)
			if what != "HTTP/2" {
				good = newVM(t, "127.0.0.1:0", serve).address()
			}
			good.Backup = true
			var hung atomic.Int32
			s := spec(Address{Host: "192.0.2.1", Port: 80}, good)
			s.HTTP2 = what == "HTTP/2"
			p := pool(t, s, hangs("192.0.2.1:80", &hung))
			start := time.Now()
			for range 3 {
				if what == "tunnel" {
					l, err := p.Dial(context.Background(), &message.Client{}, 0, nil)
					if err != nil {
						t.Fatal(err)
					}
					l.Socket().Close()
					l.Done()
				} else if _, err := answer(t, p, exchange("POST", "x")); err != nil {
					t.Fatal(err)
				}
			}
			if took := time.Since(start); took < stagger || took > s.Connect {
				t.Errorf("took %v", took)
			}
			if p.Backends()[0].State().Status != "ejected" || hung.Load() != 1 {
				t.Errorf("state %+v after %d attempts", p.Backends()[0].State(), hung.Load())
			}
			for _, b := range p.Backends() {
				if b.active.Load() != 0 {
					t.Errorf("%d are left on %s", b.active.Load(), b)
				}
			}
		})
	}
}

// TestSmallAnswersAreWhole: a VM that dies within a small answer costs nobody
// anything, and one that takes its time is not waited for.
func TestSmallAnswersAreWhole(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
	pieces := func(end func(c net.Conn), parts ...string) script {
		return func(n int, c net.Conn, r *bufio.Reader) {
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				if n > 1 {
					io.WriteString(c, head+"whole")
					continue
				}
				for _, p := range parts {
					io.WriteString(c, p)
				}
				end(c)
				return
			}
		}
	}
	reset := func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() }
	closed := func(c net.Conn) { c.Close() }
	for name, do := range map[string]script{
		"reset after the head":      pieces(reset, head),
		"closed after the head":     pieces(closed, head),
		"closed within the body":    pieces(closed, head, "wh"),
		"closed within the body, 1": pieces(closed, head+"who"),
		"closed before the head":    pieces(closed),
		"reset before the head":     pieces(reset),
	} {
		t.Run(name, func(t *testing.T) {
			v := newVM(t, "127.0.0.1:0", do)
			p := pool(t, spec(v.address()), Dialer{})
			wantAnswer(t, p, exchange("GET", ""), "whole")
			wantAnswer(t, p, exchange("GET", ""), "whole")
			if s := p.Backends()[0].State(); s.Active != 0 || s.Idle != 1 {
				t.Errorf("state %+v", s)
			}
		})
	}
	t.Run("a POST is not repeated", func(t *testing.T) {
		v := newVM(t, "127.0.0.1:0", pieces(closed, head, "wh"))
		p := pool(t, spec(v.address()), Dialer{})
		ex := exchange("POST", "")
		l, err := p.RoundTrip(context.Background(), ex, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(ex.Response.Body); err == nil {
			t.Error("a whole body")
		}
		l.Fail()
	})
}

// TestSlowBodiesStream: what comes later than the head is not waited for, also
// where it cannot be seen whether something comes.
func TestSlowBodiesStream(t *testing.T) {
	run := func(t *testing.T, p *Pool, next chan bool) {
		for range 2 {
			ex := exchange("GET", "")
			start := time.Now()
			l, err := p.RoundTrip(context.Background(), ex, 0)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); took < earlyWait || took > 10*earlyWait {
				t.Errorf("the head took %v", took)
			}
			if ex.Response.Body.(*early).at != 0 {
				t.Error("something was handed out")
			}
			got := make([]byte, 10)
			n, err := ex.Response.Body.Read(got)
			if string(got[:n]) != "he" || err != nil {
				t.Errorf("first %q, %v", got[:n], err)
			}
			if ex.Response.Body.(*early).Ready() {
				t.Error("ready, but nothing has come")
			}
			next <- true
			rest, err := io.ReadAll(ex.Response.Body)
			if string(rest) != "llo" || err != nil {
				t.Errorf("then %q, %v", rest, err)
			}
			l.Release()
		}
		// One that is never completed ends with its client.
		ex := exchange("GET", "")
		l, err := p.RoundTrip(context.Background(), ex, 0)
		if err != nil {
			t.Fatal(err)
		}
		l.Fail()
		next <- true
	}
	handler := func(next chan bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "he")
			w.(http.Flusher).Flush()
			<-next
			io.WriteString(w, "llo")
		}
	}
	for _, mode := range []string{"plain", "TLS", "h2c"} {
		t.Run(mode, func(t *testing.T) {
			next := make(chan bool)
			a, roots := goVM(t, mode == "TLS", mode == "h2c", handler(next))
			s := spec(a)
			s.HTTP2 = mode == "h2c"
			if roots != nil {
				s.TLS = &TLS{ServerName: "example.com", RootsPEM: roots}
			}
			run(t, pool(t, s, Dialer{}), next)
		})
	}
}

// TestAKilledVMCostsNothing kills one of two VMs under load and starts it
// again, three times.
func TestAKilledVMCostsNothing(t *testing.T) {
	stays := newVM(t, "127.0.0.1:0", serve)
	dies := newVM(t, freePort(t).String(), serve)
	p := pool(t, spec(stays.address(), dies.address()), Dialer{})
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var asked atomic.Int64
	for range 16 {
		group.Go(func() {
			for ctx.Err() == nil {
				if got, err := answer(t, p, exchange("GET", "")); err != nil || got != "GET " {
					t.Errorf("%q, %v", got, err)
					return
				}
				asked.Add(1)
			}
		})
	}
	address := dies.l.Addr().String()
	b := p.Backends()[1]
	for range 3 {
		n := asked.Load()
		waitFor(t, func() bool { return asked.Load() > n+500 })
		dies.kill()
		waitFor(t, func() bool { return b.State().Status == "ejected" })
		dies = newVM(t, address, serve)
		waitFor(t, func() bool { return b.State().Status == "unknown" })
	}
	cancel()
	group.Wait()
}

// TestErrorsBehindASilentLink is a GET whose VM says nothing until its
// connection ends, long after hold.
func TestErrorsBehindASilentLink(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	silent := newVM(t, "127.0.0.1:0", func(_ int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		time.AfterFunc(1500*time.Millisecond, func() { c.Close() }) // a hold of 0 is one second
		r.ReadByte()
	})
	good := v.address()
	good.Backup = true
	s := spec(silent.address(), good)
	s.Hold = 0
	p := pool(t, s, Dialer{})
	wantAnswer(t, p, exchange("GET", ""), "GET ")
}

func TestRetriesAreBudgeted(t *testing.T) {
	refused := func(context.Context, string, string) (*socket.Socket, error) { return nil, errTest }
	s := some(3)
	s.NoEjection = true
	p := pool(t, s, Dialer{Dial: refused})
	p.budget.saved.Store(0)
	p.budget.refill.Store(time.Now().Add(time.Hour).UnixNano())
	_, err := answer(t, p, exchange("GET", ""))
	wantError(t, err, message.VMSide, 502)
	failures := uint64(0)
	for _, b := range p.Backends() {
		failures += b.State().Failures
	}
	if failures != 1 || !errors.Is(err, errTest) {
		t.Errorf("%d attempts without a budget, %v", failures, err)
	}
}
