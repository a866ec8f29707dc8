package upstream

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/upstream/names"
)

// sleeper is a VM that is started in some time and takes connections then.
type sleeper struct {
	boot     time.Duration // until it takes connections
	patience time.Duration // start_timeout
	broken   error         // of its start hook

	mu      sync.Mutex
	awake   time.Time // zero while it sleeps
	starts  int
	busy    int
	reached int
	unwell  map[string]bool
	well    map[string]bool
	drained atomic.Bool
}

func (s *sleeper) Begin()         { s.mu.Lock(); s.busy++; s.mu.Unlock() }
func (s *sleeper) End()           { s.mu.Lock(); s.busy--; s.mu.Unlock() }
func (s *sleeper) Drained() bool  { return s.drained.Load() }
func (s *sleeper) CanStart() bool { return s.patience > 0 }
func (s *sleeper) Reached()       { s.mu.Lock(); s.reached++; s.mu.Unlock() }

func (s *sleeper) Unhealthy(address string, since time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unwell == nil {
		s.unwell = map[string]bool{}
	}
	if s.unwell[address] = !since.IsZero(); since.IsZero() {
		delete(s.unwell, address)
	}
}

func (s *sleeper) Healthy(address string, yes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.well == nil {
		s.well = map[string]bool{}
	}
	if s.well[address] = yes; !yes {
		delete(s.well, address)
	}
}

func (s *sleeper) Start() (time.Time, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return time.Time{}, s.broken
	}
	if s.awake.IsZero() {
		s.starts++
		s.awake = time.Now().Add(s.boot)
	}
	return s.awake.Add(s.patience - s.boot), nil
}

// dial is a connection to it.
func (s *sleeper) dial(context.Context, string, string) (*socket.Socket, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.awake.IsZero() || time.Now().Before(s.awake) {
		return nil, errTest
	}
	return nil, errBooted
}

// errBooted is what a request gets from a VM that is up: the tests on fake time
// have no network. It ends the request.
var errBooted = fmt.Errorf("it is up: %w", errOwn)

func (s *sleeper) give(p *Pool) {
	for _, b := range p.Backends() {
		b.machine = s
	}
}

// TestWake: the first visitor starts the VM, once, and all are held until it
// takes connections.
func TestWake(t *testing.T) {
	for name, unknown := range map[string]bool{"the dial fails": false, "it has no address": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				vm := &sleeper{boot: 20 * time.Second, patience: time.Minute}
				dns := &book{}
				a := Address{Host: "192.0.2.1", Port: 80}
				if unknown {
					a.Host = "vm.test"
					time.AfterFunc(20*time.Second, func() { dns.set("vm.test", names.Endpoint{Addr: at("192.0.2.1").Addr}) })
				}
				p := pool(t, spec(a), Dialer{Dial: vm.dial, Names: dns})
				vm.give(p)
				start := time.Now()
				var group sync.WaitGroup
				for range 5 {
					group.Go(func() {
						if _, err := answer(t, p, exchange("POST", "x")); !errors.Is(err, errBooted) {
							t.Errorf("got %v", err)
						}
						if _, err := p.Dial(t.Context(), &message.Client{}, 0, nil); !errors.Is(err, errBooted) {
							t.Errorf("a tunnel got %v", err)
						}
					})
				}
				group.Wait()
				if took := time.Since(start); took < vm.boot || took > vm.boot+time.Second {
					t.Errorf("took %v", took)
				}
				if vm.starts != 1 {
					t.Errorf("started %d times", vm.starts)
				}
			})
		})
	}
}

// TestBrowsersAreTold after hold that the VM is being started, and API clients
// wait for as long as it makes sense.
func TestBrowsersAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := &sleeper{boot: time.Hour, patience: time.Minute}
		p := pool(t, spec(Address{Host: "192.0.2.1", Port: 80}), Dialer{Dial: vm.dial})
		vm.give(p)
		start := time.Now()
		browser := exchange("GET", "")
		browser.Request.Header.AddString("Accept", "text/html,*/*")
		_, err := answer(t, p, browser)
		var e *message.Error
		if !errors.As(err, &e) || !e.Starting || e.Status != 503 || e.RetryAfter == 0 || time.Since(start) != p.spec.Hold {
			t.Errorf("%+v after %v", e, time.Since(start))
		}
		vm.awake, start = time.Time{}, time.Now()
		_, err = answer(t, p, exchange("GET", ""))
		if !errors.As(err, &e) || e.Starting || e.Status != 503 || e.RetryAfter == 0 || time.Since(start).Round(time.Second) != vm.patience {
			t.Errorf("%+v after %v", e, time.Since(start))
		}
	})
}

// TestAHookThatFails: the answer says so, after the hold of any VM.
func TestAHookThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		vm := &sleeper{patience: time.Minute, broken: errors.New("exit status 1")}
		p := pool(t, spec(Address{Host: "192.0.2.1", Port: 80}), Dialer{Dial: vm.dial})
		vm.give(p)
		start := time.Now()
		_, err := answer(t, p, exchange("GET", ""))
		wantError(t, err, message.VMSide, 503)
		if !errors.Is(err, vm.broken) || time.Since(start) != p.spec.Hold {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// TestNobodyIsWokenInVain: while another backend answers, the sleeper sleeps.
func TestNobodyIsWokenInVain(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	vm := &sleeper{patience: time.Minute}
	p := pool(t, spec(Address{Host: "192.0.2.1", Port: 80}, v.address()), Dialer{Dial: func(ctx context.Context, network, to string) (*socket.Socket, error) {
		if to == "192.0.2.1:80" {
			return vm.dial(ctx, network, to)
		}
		return socket.Dial(ctx, network, to)
	}})
	p.Backends()[0].machine = vm
	for range 20 {
		wantAnswer(t, p, exchange("GET", ""), "GET ")
	}
	if vm.starts != 0 {
		t.Error("it was started")
	}
}

// TestDrained: no new work for a drained VM, not even that of its visitors,
// and 503 at once when all are.
func TestDrained(t *testing.T) {
	v, w := newVM(t, "127.0.0.1:0", serve), newVM(t, "127.0.0.1:0", serve)
	s := spec(v.address(), w.address())
	s.Sticky = &Sticky{Cookie: "usher_sticky", Key: []byte("k")}
	p := pool(t, s, Dialer{})
	one, other := &sleeper{}, &sleeper{}
	p.Backends()[0].machine, p.Backends()[1].machine = one, other
	one.drained.Store(true)
	for range 20 {
		ex := exchange("GET", "")
		ex.Request.Header.AddString("Cookie", "usher_sticky="+p.Backends()[0].cookie.value)
		l, err := p.RoundTrip(t.Context(), ex, 0)
		if err != nil || l.Backend() != p.Backends()[1] {
			t.Fatalf("%v, %v", l, err)
		}
		if l.Cookie(false) == nil {
			t.Error("the visitor keeps the cookie of the drained VM")
		}
		if other.busy != 1 {
			t.Errorf("%d at work", other.busy)
		}
		l.Release()
	}
	if one.reached != 0 || other.reached != 1 || other.busy != 0 {
		t.Errorf("reached %d and %d, %d at work", one.reached, other.reached, other.busy)
	}
	other.drained.Store(true)
	start := time.Now()
	_, err := answer(t, p, exchange("GET", ""))
	wantError(t, err, message.UsherSide, 503)
	var e *message.Error
	if errors.As(err, &e); e.RetryAfter == 0 || time.Since(start) > time.Second {
		t.Errorf("%+v after %v", e, time.Since(start))
	}
	if s := p.Backends()[0].State(); s.Status != "drained" {
		t.Errorf("state %+v", s)
	}
}

// TestAMachineHearsOnceOfItsHealth, however many pools check it, also while
// one takes over from another.
func TestAMachineHearsOnceOfItsHealth(t *testing.T) {
	vm := &sleeper{}
	set := NewSet(Dialer{})
	one, _ := newPool(set.network, key{1}, new(some(1)), some(1).Addresses)
	two, _ := newPool(set.network, key{2}, new(some(1)), some(1).Addresses)
	vm.give(one)
	vm.give(two)
	a, b := one.Backends()[0], two.Backends()[0]
	a.turned(2)
	b.turned(2)
	a.turned(2)
	if len(vm.unwell) != 1 {
		t.Errorf("unwell at %v", vm.unwell)
	}
	one.Retire()
	if len(vm.unwell) != 1 || len(vm.well) != 0 {
		t.Errorf("one pool less: unwell at %v", vm.unwell)
	}
	a.turned(2) // comes late
	b.turned(1)
	if len(vm.unwell) != 0 || len(vm.well) != 1 || vm.reached != 1 {
		t.Errorf("unwell at %v, well at %v, reached %d times", vm.unwell, vm.well, vm.reached)
	}
	two.Retire()
	if len(vm.unwell)+len(vm.well)+len(set.network.said) != 0 {
		t.Errorf("nobody checks it: unwell at %v, well at %v", vm.unwell, vm.well)
	}
}

// TestSticky keeps visitors by their cookie, gives those without one a cookie,
// and believes none that it has not made.
func TestSticky(t *testing.T) {
	v, w := newVM(t, "127.0.0.1:0", serve), newVM(t, "127.0.0.1:0", serve)
	s := spec(v.address(), w.address())
	s.Sticky = &Sticky{Cookie: "sid", TTL: time.Hour, Key: []byte("secret")}
	p := pool(t, s, Dialer{})
	visit := func(cookie string) (*Backend, string) {
		t.Helper()
		ex := exchange("GET", "")
		if cookie != "" {
			ex.Request.Header.AddString("Cookie", cookie)
		}
		l, err := p.RoundTrip(t.Context(), ex, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		return l.Backend(), string(l.Cookie(true))
	}
	first, set := visit("")
	value := first.cookie.value
	if want := "sid=" + value + "; Path=/; HttpOnly; SameSite=Lax; Max-Age=3600; Secure"; set != want || len(value) != 24 {
		t.Fatalf("cookie %q, want %q", set, want)
	}
	for range 20 {
		if b, set := visit("a=b; sid=" + value); b != first || set != "" {
			t.Fatalf("went to %s, cookie %q", b, set)
		}
	}
	for _, forged := range []string{"sid=" + value[1:], "sid=", "sid=" + value + "x"} {
		if _, set := visit(forged); set == "" {
			t.Errorf("%q was believed", forged)
		}
	}
	other := newCookie(&Sticky{Cookie: "sid", Key: []byte("other")}, first.text)
	if other.value == value {
		t.Error("the value does not depend on the key")
	}
	first.failed(noDial, errTest)
	b, set := visit("sid=" + value)
	if b == first || set == "" {
		t.Errorf("the visitor of an ejected backend went to %s with %q", b, set)
	}
}
