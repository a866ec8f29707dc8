package discover

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/upstream/names"
)

// script is a source that answers as told; each question is noted.
type script struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	asked []time.Time
}

func (s *script) Addresses(context.Context) ([]netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, time.Now())
	return s.addrs, s.err
}

func (s *script) set(addrs []netip.Addr, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addrs, s.err = addrs, err
}

// questions is how many there were since the last call.
func (s *script) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.asked)
	s.asked = nil
	return n
}

// keep runs a Keeper in a bubble.
func keep(t *testing.T, k *Keeper, test func()) {
	synctest.Test(t, func(t *testing.T) {
		stop := run(t, k)
		defer stop()
		test()
	})
}

// run runs a Keeper that a bubble has made, until stop.
func run(t *testing.T, k *Keeper) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	if k.Feed == nil {
		k.Feed = new(names.Feed)
	}
	go func() { k.Run(ctx); close(done) }()
	synctest.Wait()
	return func() { cancel(); <-done }
}

func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func holds(t *testing.T, k *Keeper, fault error, want ...string) {
	t.Helper()
	a := k.Feed.Answer()
	if a == nil {
		t.Fatal("no answer")
	}
	same := len(a.Endpoints) == len(want) && a.Err == fault
	for i := 0; same && i < len(want); i++ {
		same = a.Endpoints[i] == names.Endpoint{Addr: netip.MustParseAddr(want[i])}
	}
	if !same {
		t.Errorf("%v (%v), want %v (%v)", a.Endpoints, a.Err, want, fault)
	}
}

func TestKeeperPolls(t *testing.T) {
	s := &script{addrs: addrs("10.0.0.1")}
	k := &Keeper{Source: s}
	keep(t, k, func() {
		holds(t, k, nil, "10.0.0.1")
		if n := s.questions(); n != 1 {
			t.Errorf("%d questions at once", n)
		}
		s.set(addrs("10.0.0.2", "10.0.0.3"), nil)
		wait(8900 * time.Millisecond)
		holds(t, k, nil, "10.0.0.1")
		wait(2200 * time.Millisecond)
		holds(t, k, nil, "10.0.0.2", "10.0.0.3")
		s.questions()
		wait(20 * time.Minute)
		if n := s.questions(); n < 109 || n > 133 {
			t.Errorf("%d questions in 20 minutes, want about 120", n)
		}
	})
}

func TestKeeperKeepsTheLastAnswerOfAFailingSource(t *testing.T) {
	s := &script{addrs: addrs("10.0.0.1")}
	var told []Change
	k := &Keeper{Source: s, Told: func(c Change) { told = append(told, c) }}
	fault, off := errors.New("no connection"), offf("domain is shut off")
	keep(t, k, func() {
		s.set(nil, fault)
		wait(12 * time.Second)
		holds(t, k, fault, "10.0.0.1")
		s.questions()
		wait(30 * time.Second)
		if n := s.questions(); n < 13 || n > 18 {
			t.Errorf("%d questions in half a minute of trouble, want about 15", n)
		}
		wait(time.Minute)
		s.questions()
		wait(5 * time.Minute)
		if n := s.questions(); n < 25 || n > 35 {
			t.Errorf("%d questions in 5 minutes of lasting trouble, want about 30", n)
		}
		s.set(nil, off)
		wait(12 * time.Second)
		holds(t, k, off)
		s.set(nil, fault)
		wait(12 * time.Second)
		holds(t, k, fault)
		s.set(addrs("10.0.0.9"), nil)
		wait(12 * time.Second)
		holds(t, k, nil, "10.0.0.9")
	})
	if len(told) != 5 || len(told[0].Addresses) != 1 || told[1].Err != fault || len(told[1].Addresses) != 1 || told[2].Err != off || told[2].Addresses != nil || told[4].Err != nil {
		t.Errorf("told %v", told)
	}
}

// TestKeeperDoesNotKeepAnothersAnswer: the Feed was filled by the source that
// the configuration named before.
func TestKeeperDoesNotKeepAnothersAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &Keeper{Source: &script{err: errors.New("refused")}, Feed: new(names.Feed)}
		k.Feed.Set(&names.Answer{Endpoints: []names.Endpoint{{Addr: netip.MustParseAddr("10.0.0.1")}}})
		defer run(t, k)()
		if a := k.Feed.Answer(); len(a.Endpoints) != 0 || a.Err == nil {
			t.Errorf("%v, %v", a.Endpoints, a.Err)
		}
	})
}

func TestKeeperHurries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{err: offf("off")}
		now := make(chan struct{}, 1)
		var hurry atomic.Bool
		k := &Keeper{Source: s, Now: now, Hurry: hurry.Load, Interval: time.Hour}
		defer run(t, k)()
		wait(2 * time.Hour)
		s.questions()
		hurry.Store(true)
		now <- struct{}{}
		synctest.Wait()
		if n := s.questions(); n != 1 {
			t.Errorf("%d questions when it should ask at once", n)
		}
		s.set(addrs("10.0.0.1"), nil)
		wait(1100 * time.Millisecond)
		holds(t, k, nil, "10.0.0.1")
		wait(10 * time.Second)
		if n := s.questions(); n < 9 || n > 13 {
			t.Errorf("%d questions in 10 s of hurry", n)
		}
		hurry.Store(false)
		wait(2 * time.Second)
		s.questions()
		wait(30 * time.Minute)
		if n := s.questions(); n != 0 {
			t.Errorf("%d questions after the hurry", n)
		}
	})
}

// told is a source that tells of changes as long as it is told to.
type told struct {
	script
	events  chan struct{} // nil: no events
	watches int
}

func (s *told) Watch(ctx context.Context, changed func()) error {
	s.mu.Lock()
	events := s.events
	s.watches++
	s.mu.Unlock()
	if events == nil {
		return errors.New("no events")
	}
	changed()
	for {
		select {
		case _, open := <-events:
			if !open {
				return errors.New("events ended")
			}
			changed()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestKeeperWatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &told{events: make(chan struct{})}
		s.addrs = addrs("10.0.0.1")
		k := &Keeper{Source: s}
		defer run(t, k)()
		wait(time.Second)
		if n := s.questions(); n != 2 {
			t.Errorf("%d questions, want one at once and one when the events begin", n)
		}
		wait(80 * time.Second)
		if n := s.questions(); n != 0 {
			t.Errorf("%d questions without an event", n)
		}
		s.set(addrs("10.0.0.2"), nil)
		for range 10 { // a burst is one change
			s.events <- struct{}{}
		}
		wait(breath)
		holds(t, k, nil, "10.0.0.2")
		wait(time.Second)
		if n := s.questions(); n > 2 {
			t.Errorf("%d questions for a burst of events", n)
		}

		events := s.events
		s.mu.Lock()
		s.events = nil
		s.mu.Unlock()
		s.set(addrs("10.0.0.3"), nil)
		close(events)
		wait(breath)
		holds(t, k, nil, "10.0.0.3")
		s.questions()
		wait(5 * time.Minute)
		if n := s.questions(); n < 25 || n > 35 {
			t.Errorf("%d questions in 5 minutes without events, want about 30", n)
		}
		s.mu.Lock()
		s.events, s.watches = make(chan struct{}), 0
		s.mu.Unlock()
		wait(30 * time.Second)
		s.mu.Lock()
		if s.watches != 1 {
			t.Errorf("%d watches after the break, want 1", s.watches)
		}
		s.mu.Unlock()
		s.questions()
		wait(80 * time.Second)
		if n := s.questions(); n > 1 {
			t.Errorf("%d questions while events work again", n)
		}
	})
}

// TestKeeperTakesSoMany: whoever controls a guest cannot have usher check and
// log any number of addresses.
func TestKeeperTakesSoMany(t *testing.T) {
	var many []netip.Addr
	for a := netip.MustParseAddr("10.0.0.1"); len(many) < 100_000; a = a.Next() {
		many = append(many, a)
	}
	var told Change
	k := &Keeper{Source: &script{addrs: many}, Told: func(c Change) { told = c }}
	keep(t, k, func() {
		if got := k.Feed.Answer().Endpoints; len(got) != mostAddresses || got[0].Addr != many[0] {
			t.Errorf("%d endpoints", len(got))
		}
		if len(told.Addresses) != mostAddresses {
			t.Errorf("told of %d addresses", len(told.Addresses))
		}
	})
}
