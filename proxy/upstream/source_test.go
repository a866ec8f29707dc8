package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/message"
	"usher/proxy/upstream/health"
	"usher/proxy/upstream/names"
)

// book is the names of a test.
type book struct {
	mu      sync.Mutex
	feeds   map[string]*names.Feed
	watched int
	asked   []string // Refresh
}

func (b *book) Watch(host string, srv bool) (*names.Feed, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watched++
	return b.feed(host), sync.OnceFunc(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.watched--
	})
}

func (b *book) feed(host string) *names.Feed {
	if b.feeds == nil {
		b.feeds = map[string]*names.Feed{}
	}
	if b.feeds[host] == nil {
		b.feeds[host] = new(names.Feed)
	}
	return b.feeds[host]
}

func (b *book) Refresh(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, host)
}

// set answers for a host.
func (b *book) set(host string, e ...names.Endpoint) {
	b.mu.Lock()
	f := b.feed(host)
	b.mu.Unlock()
	f.Set(&names.Answer{Endpoints: e, At: time.Now()})
}

func at(ip string) names.Endpoint { return names.Endpoint{Addr: netip.MustParseAddr(ip)} }

func texts(p *Pool) (all []string) {
	for _, b := range p.Backends() {
		all = append(all, b.String())
	}
	return all
}

// TestNames follows what a name stands for: each address is a backend, which
// keeps its state and its connections while it stays.
func TestNames(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	port := v.address().Port
	dns := &book{}
	p := pool(t, spec(Address{Host: "vm.test", Port: port}), Dialer{Names: dns})
	dns.set("vm.test", at("127.0.0.1"))
	wantAnswer(t, p, exchange("GET", ""), "GET ")
	b := p.Backends()[0]
	if s := b.State(); s.Idle != 1 || s.Source != net.JoinHostPort("vm.test", itoa(port)) || s.Address != v.l.Addr().String() {
		t.Errorf("state %+v", s)
	}
	dns.set("vm.test", at("127.0.0.77"), at("127.0.0.1"))
	if got := p.Backends(); len(got) != 2 || got[1] != b || b.State().Idle != 1 {
		t.Errorf("backends %v", texts(p))
	}
	for range 10 {
		wantAnswer(t, p, exchange("GET", ""), "GET ")
	}
	if !slices.Contains(dns.asked, "vm.test") {
		t.Error("a dial failed, and the name was not asked for again")
	}
	dns.set("vm.test", at("127.0.0.77"))
	if b.State().Idle != 0 {
		t.Error("a connection to an address that is gone was kept")
	}
	p.Retire()
	dns.set("vm.test", at("127.0.0.78"))
	if got := texts(p); len(got) != 1 || got[0] != net.JoinHostPort("127.0.0.77", itoa(port)) || dns.watched != 0 {
		t.Errorf("after retiring: %v, %d watched", got, dns.watched)
	}
}

// TestANameWithoutAnAnswer holds its requests until the first answer, and
// nothing else.
func TestANameWithoutAnAnswer(t *testing.T) {
	v := newVM(t, "127.0.0.1:0", serve)
	dns := &book{}
	p := pool(t, spec(Address{Host: "vm.test", Port: v.address().Port}), Dialer{Names: dns})
	done := make(chan error, 1)
	go func() {
		got, err := answer(t, p, exchange("POST", "x"))
		if got != "POST x" {
			err = errors.Join(err, errors.New(got))
		}
		done <- err
	}()
	waitFor(t, func() bool { p.bell.mu.Lock(); defer p.bell.mu.Unlock(); return p.bell.next != nil })
	dns.set("vm.test", at("127.0.0.1"))
	if err := <-done; err != nil {
		t.Error(err)
	}
	beside := pool(t, spec(v.address(), Address{Host: "none.test", Port: 1}), Dialer{Names: dns})
	for range 20 {
		wantAnswer(t, beside, exchange("GET", ""), "GET ")
	}
	s := beside.Backends()[1].State()
	if s.Status != "unresolved" || s.Why != errNoAnswer.Error() || s.Failures != 0 {
		t.Errorf("state %+v", s)
	}
}

func TestANameThatNeverResolves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &book{}
		p := pool(t, spec(Address{Host: "vm.test", Port: 80}), Dialer{Names: dns})
		why := errors.New("no such host")
		dns.feed("vm.test").Set(&names.Answer{Err: why})
		start := time.Now()
		_, err := answer(t, p, exchange("GET", ""))
		wantError(t, err, message.VMSide, 503)
		if !errors.Is(err, why) || time.Since(start) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		_, err = p.Dial(context.Background(), &message.Client{}, 0, nil)
		wantError(t, err, message.VMSide, 503)
		if s := p.Backends()[0].State(); s.Why != why.Error() {
			t.Errorf("state %+v", s)
		}
	})
}

func TestSRV(t *testing.T) {
	dns := &book{}
	p := pool(t, spec(Address{Host: "_web._tcp.vm.test", SRV: true, Weight: 2}), Dialer{Names: dns})
	dns.set("_web._tcp.vm.test",
		names.Endpoint{Addr: netip.MustParseAddr("192.0.2.1"), Port: 8080, Weight: 3},
		names.Endpoint{Addr: netip.MustParseAddr("2001:db8::1"), Port: 8081, Backup: true})
	all := p.Backends()
	if got := texts(p); !slices.Equal(got, []string{"192.0.2.1:8080", "[2001:db8::1]:8081"}) {
		t.Fatalf("backends %v", got)
	}
	if all[0].weight != 6 || all[1].weight != 2 || all[0].backup || !all[1].backup {
		t.Errorf("weights %v and %v", all[0].weight, all[1].weight)
	}
}

// TestPlans: a pool that is planned follows its names at once, until its plan
// is discarded.
func TestPlans(t *testing.T) {
	dns := &book{}
	set := NewSet(Dialer{Names: dns})
	plan := set.Plan()
	kept, _ := plan.Pool(spec(Address{Host: "a.test", Port: 80}))
	set, _ = plan.Done()
	plan = set.Plan()
	plan.Keep(kept)
	made, _ := plan.Pool(spec(Address{Host: "b.test", Port: 80}))
	dns.set("b.test", at("192.0.2.1"))
	if dns.watched != 2 || made.Backends()[0].unresolved() {
		t.Errorf("%d names watched", dns.watched)
	}
	plan.Discard()
	if dns.watched != 1 || !made.retired.Load() || kept.retired.Load() {
		t.Errorf("%d names watched after Discard", dns.watched)
	}
	kept.Retire()
}

// TestManyAreChecked: the addresses of a name are checked once there are
// several.
func TestManyAreChecked(t *testing.T) {
	dns := &book{}
	a := Address{Host: "vm.test", Port: 80, Health: &health.Check{Kind: health.TCP, Interval: time.Second}, IfMany: true}
	p := pool(t, spec(a), Dialer{Names: dns, Checker: health.New(health.Options{})})
	dns.set("vm.test", at("192.0.2.1"))
	if b := p.Backends(); len(b) != 1 || b[0].health != nil {
		t.Errorf("one address: %v is checked", texts(p))
	}
	dns.set("vm.test", at("192.0.2.1"), at("192.0.2.2"))
	both := p.Backends()
	if len(both) != 2 || both[0].health == nil || both[1].health == nil {
		t.Errorf("two addresses: not all of %v are checked", texts(p))
	}
	dns.set("vm.test", at("192.0.2.2"))
	if b := p.Backends(); len(b) != 1 || b[0] != both[1] {
		t.Errorf("the one that stays is another one: %v", texts(p))
	}
}
