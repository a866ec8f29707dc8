package socket

import "time"

// Tick is how coarse the clock of a Loop is.
const Tick = 500 * time.Millisecond

const buckets = 256 // a power of two; a later deadline meets its bucket more than once

// Expirer is told of a deadline.
type Expirer interface {
	// Expire is called on the Loop's goroutine at the deadline and at most a
	// second late. It must not block, and may be called although another
	// goroutine has just called Cancel.
	Expire()
}

// Timer is one coarse deadline of a Loop. The zero value is ready; it must not
// be copied while set.
type Timer struct {
	next, prev *Timer
	at         int64 // tick
	who        Expirer
}

// wheel holds timers by the tick of their deadline.
type wheel struct {
	start   time.Time // never changed
	now     int64     // the last tick that was served
	count   int
	ticking bool // the poller has a deadline for Run
	heads   [buckets]*Timer
}

// tickOf is the first tick that is not before t.
func (w *wheel) tickOf(t time.Time) int64 {
	return int64((t.Sub(w.start) + Tick - 1) / Tick)
}

// passed is the number of ticks that have passed at t.
func (w *wheel) passed(t time.Time) int64 { return int64(t.Sub(w.start) / Tick) }

func (w *wheel) insert(t *Timer) {
	head := &w.heads[t.at&(buckets-1)]
	t.next, t.prev = *head, nil
	if *head != nil {
		(*head).prev = t
	}
	*head = t
	w.count++
}

func (w *wheel) delete(t *Timer) {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.heads[t.at&(buckets-1)] = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	*t = Timer{}
	w.count--
}

// due removes the timers of all ticks up to now and returns whom to tell.
func (w *wheel) due(now int64, who []Expirer) []Expirer {
	for first := max(w.now+1, now-buckets+1); first <= now; first++ {
		for t := w.heads[first&(buckets-1)]; t != nil; {
			next := t.next
			if t.at <= now {
				who = append(who, t.who)
				w.delete(t)
			}
			t = next
		}
	}
	return who
}

// Set calls e.Expire at the deadline, once, and replaces what t was set to. It
// is forgotten when Run returns.
func (l *Loop) Set(t *Timer, deadline time.Time, e Expirer) {
	l.setTick(t, l.tickAt(deadline), e)
}

// tickAt is the first tick that is not before t.
func (l *Loop) tickAt(t time.Time) int64 { return l.wheel.tickOf(t) }

// tickAfter is the first tick by which d has certainly passed. It looks at the
// clock only while the wheel stands still.
func (l *Loop) tickAfter(d time.Duration) int64 {
	at := l.clock.Load()
	if !l.ticking.Load() {
		at = l.wheel.passed(time.Now())
	}
	return at + int64((d+Tick-1)/Tick) + 1
}

// setTick is Set with the tick of the deadline.
func (l *Loop) setTick(t *Timer, tick int64, e Expirer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	if t.who != nil {
		l.wheel.delete(t)
	}
	if l.wheel.count == 0 {
		l.skip(l.wheel.passed(time.Now()))
	}
	t.at, t.who = max(tick, l.wheel.now+1), e
	l.wheel.insert(t)
	if l.wheel.count == 1 {
		l.awake()
	}
}

// Cancel forgets what t was set to.
func (l *Loop) Cancel(t *Timer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.who != nil && !l.ended {
		l.wheel.delete(t)
	}
}

// Ticks is the coarse clock of the Loop: how many Ticks had passed when Run
// last looked, which it does only while a Timer is set.
func (l *Loop) Ticks() int64 { return l.clock.Load() }

// skip moves the clock on. The caller holds mu.
func (l *Loop) skip(now int64) {
	if now > l.wheel.now {
		l.wheel.now = now
		l.clock.Store(now)
	}
}

// awake makes Run look at the wheel at the next tick. The caller holds mu.
func (l *Loop) awake() {
	if !l.ending {
		l.wheel.ticking = true
		l.ticking.Store(true)
		l.file.SetReadDeadline(l.wheel.start.Add(time.Duration(l.wheel.now+1) * Tick))
	}
}

// asleep lets Run wait without end, when the wheel is empty. The caller holds
// mu.
func (l *Loop) asleep() {
	if l.wheel.ticking && !l.ending {
		l.wheel.ticking = false
		l.ticking.Store(false)
		l.file.SetReadDeadline(time.Time{})
	}
}

// advance tells those whose time has come.
func (l *Loop) advance() {
	l.expired = l.takeExpired(l.expired[:0])
	for i, e := range l.expired {
		l.expired[i] = nil
		e.Expire()
	}
}

func (l *Loop) takeExpired(into []Expirer) []Expirer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wheel.count == 0 {
		l.asleep()
		return into
	}
	if now := l.wheel.passed(time.Now()); now > l.wheel.now {
		into = l.wheel.due(now, into)
		l.skip(now)
		l.awake()
	}
	return into
}
