package socket

import (
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var listenerAddr = netip.MustParseAddrPort("127.0.0.1:443")

type expiry struct {
	timer Timer
	at    int64
	fired int64
}

func (e *expiry) Expire() { e.fired++ }

// TestWheelAgainstModel sets, moves and cancels timers at random, over more
// ticks than there are buckets, and compares with a plain comparison.
func TestWheelAgainstModel(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var w wheel
	timers := make([]expiry, 200)
	for now := int64(1); now < 3000; now += 1 + r.Int64N(40)*r.Int64N(2)*r.Int64N(20) {
		for range 20 {
			e := &timers[r.IntN(len(timers))]
			if e.timer.who != nil {
				w.delete(&e.timer)
				e.at = 0
			}
			if r.IntN(4) > 0 {
				e.at = w.now + 1 + r.Int64N(700)
				e.timer.at, e.timer.who = e.at, e
				w.insert(&e.timer)
			}
		}
		for _, who := range w.due(now, nil) {
			who.Expire()
		}
		w.now = now
		set := 0
		for i := range timers {
			e := &timers[i]
			due := e.at != 0 && e.at <= now
			if due != (e.fired == 1) {
				t.Fatalf("tick %d: due at %d, fired %d", now, e.at, e.fired)
			}
			if e.fired = 0; due {
				e.at = 0
			}
			if e.at != 0 {
				set++
			}
		}
		if set != w.count {
			t.Fatalf("tick %d: %d set, count %d", now, set, w.count)
		}
	}
}

type told struct{ events, stopped atomic.Int32 }

func (r *told) Ready(uint32) { r.events.Add(1) }
func (r *told) Stopped()     { r.stopped.Add(1) }

func TestLoopForgetsOldRegistrations(t *testing.T) {
	noLeak(t)
	l := running(t)
	var first, second told
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	old, err := l.Add(p[0], unix.EPOLLIN|unix.EPOLLET, &first)
	if err != nil {
		t.Fatal(err)
	}
	l.Remove(p[0], old)
	l.Remove(p[0], old)
	if _, err := l.Add(p[0], unix.EPOLLIN|unix.EPOLLET, &second); err != nil {
		t.Fatal(err)
	}
	l.dispatch(old, unix.EPOLLIN) // was on its way
	unix.Write(p[1], []byte("x"))
	eventually(t, "told", func() bool { return second.events.Load() == 1 })
	if n := first.events.Load(); n > 0 {
		t.Errorf("the old handler was told %d times", n)
	}
}

func TestTimersOfALoop(t *testing.T) {
	l := running(t)
	fired := make(chan time.Time, 1)
	e := expirer(func() { fired <- time.Now() })
	var timer, other Timer
	for range 2 { // the second begins with an empty wheel again
		at := time.Now().Add(200 * time.Millisecond)
		l.Set(&timer, at.Add(time.Hour), e)
		l.Set(&timer, at, e)
		l.Set(&other, at, expirer(func() { t.Error("cancelled") }))
		l.Cancel(&other)
		l.Cancel(&other)
		if got := <-fired; got.Before(at) || got.After(at.Add(time.Second)) {
			t.Errorf("%v late", got.Sub(at))
		}
	}
}

type expirer func()

func (e expirer) Expire() { e() }

// visitor is a handler that counts how often it is reminded.
type visitor struct {
	slot  Slot
	at    int32
	times int
}

func (v *visitor) Ready(uint32) {}
func (v *visitor) Stopped()     {}
func (v *visitor) reminded()    { v.times++ }

// TestRemindersAgainstModel reminds handlers in several chunks at random ticks.
func TestRemindersAgainstModel(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]visitor, 2*chunkSize+10)
	for i := range all {
		l.mu.Lock()
		all[i].slot = l.take(&all[i])
		l.mu.Unlock()
	}
	if n := len(l.chunks); n != 3 {
		t.Fatalf("%d chunks", n)
	}
	for now := int64(1); now < 1000; now += 1 + r.Int64N(30) {
		l.clock.Store(now)
		for _, c := range l.chunks {
			if c.set != 0 && int64(c.set) <= now {
				c.Expire()
			}
		}
		for i := range all {
			h := &all[i]
			due := h.at != 0 && int64(h.at) <= now
			if due != (h.times == 1) || h.times > 1 {
				t.Fatalf("tick %d: due at %d, reminded %d times", now, h.at, h.times)
			}
			if h.times = 0; due {
				h.at = 0
			}
			if r.IntN(20) == 0 {
				h.at = int32(now) + 1 + r.Int32N(200)
				l.remind(h.slot, h.at)
			}
		}
	}
	l.end()
}

// level takes one byte for each event.
type level struct {
	fd   int
	left atomic.Int32
}

func (l *level) Ready(uint32) {
	var b [1]byte
	if n, _ := unix.Read(l.fd, b[:]); n == 1 {
		l.left.Add(-1)
	}
}
func (l *level) Stopped() {}

// TestLoopRepeatsLevels has handlers that leave something for the next event.
func TestLoopRepeatsLevels(t *testing.T) {
	noLeak(t)
	l := running(t)
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	h := &level{fd: p[0]}
	slot, err := l.Add(p[0], unix.EPOLLIN, h)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Remove(p[0], slot)
	for range 3 {
		h.left.Add(5)
		unix.Write(p[1], []byte("12345"))
		eventually(t, "all read", func() bool { return h.left.Load() == 0 })
	}
}
