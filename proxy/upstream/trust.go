package upstream

import (
	"sync/atomic"
	"time"
)

const (
	firstEjection = time.Second
	lastEjection  = 30 * time.Second
	probeTime     = 5 * time.Second // after which another probe may go
	failureRun    = 3               // connections that break in a row, until ejected
	errorRun      = 5               // answers 5xx in a row, while others do better
)

// trust is what the exchanges of a backend say of it. A backend that fails is
// ejected: it gets no work for a time that doubles with each ejection in a row.
// After that it is half open: one exchange at a time probes it.
type trust struct {
	away    atomic.Int64 // ejected until, in Unix nanoseconds, then half open; 0 when trusted
	since   atomic.Int64 // of the ejection
	probe   atomic.Int64 // an exchange probes it, until then at most
	ejected atomic.Int32 // in a row
	broken  atomic.Int32 // connections that broke, in a row
	errors  atomic.Int32 // answers 5xx, in a row
	failing atomic.Bool  // the latest attempt failed
	absent  atomic.Bool  // the latest dial failed
	last    atomic.Pointer[lastFailure]
}

// lastFailure is for people who ask what is wrong.
type lastFailure struct {
	at   time.Time
	text string
}

// kind is how an attempt failed.
type kind uint8

const (
	noDial    kind = iota // no connection
	brokeOff              // a connection without a complete answer
	badAnswer             // a run of 5xx
)

// out reports whether the backend gets no work: it is ejected, or half open
// and cannot be probed now.
func (t *trust) out(now int64, mayProbe bool) bool {
	away := t.away.Load()
	return away != 0 && (away > now || !mayProbe || t.probe.Load() > now)
}

// claim takes the right to probe; true also for a trusted backend.
func (t *trust) claim(now int64) bool {
	if t.away.Load() == 0 {
		return true
	}
	old := t.probe.Load()
	return old <= now && t.probe.CompareAndSwap(old, now+int64(probeTime))
}

// restore ends an ejection and reports whether there was one.
func (t *trust) restore() bool {
	t.broken.Store(0)
	t.errors.Store(0)
	t.ejected.Store(0)
	t.probe.Store(0)
	return t.away.Swap(0) != 0
}

// eject keeps the backend out, unless it is out already.
func (t *trust) eject(now int64) bool {
	away := t.away.Load()
	if away > now {
		return false
	}
	n := min(t.ejected.Load(), 5)
	if !t.away.CompareAndSwap(away, now+int64(min(firstEjection<<n, lastEjection))) {
		return false
	}
	t.ejected.Add(1)
	t.broken.Store(0)
	t.errors.Store(0)
	t.probe.Store(0)
	if away == 0 {
		t.since.Store(now)
	}
	return true
}

// failed takes note of an attempt that failed.
func (b *Backend) failed(k kind, err error) {
	t := &b.trust
	now := time.Now()
	t.last.Store(&lastFailure{now, err.Error()})
	t.failing.Store(true)
	if k == noDial {
		t.absent.Store(true)
	}
	b.counted().failures.Add(1)
	if b.limit != nil {
		b.limit.overloaded()
	}
	if b.pool.spec.NoEjection || b.unresolved() {
		return
	}
	probing := t.away.Load() != 0
	if k == brokeOff && !probing && (t.broken.Add(1) < failureRun || !b.pool.hasOther(b, now.UnixNano())) {
		return
	}
	b.eject(now)
}

func (b *Backend) eject(now time.Time) {
	if b.trust.eject(now.UnixNano()) {
		b.counted().ejections.Add(1)
		b.dropIdle()
	}
}

// answered takes note of a response head and how long it took.
func (b *Backend) answered(status int, now time.Time, took time.Duration) {
	t := &b.trust
	if t.failing.Load() {
		t.failing.Store(false)
		t.absent.Store(false)
		t.broken.Store(0)
	}
	bad := status >= 500 && status != 501 && status != 505
	b.counted().took(now, took)
	if !bad {
		b.pace.add(took)
	}
	if b.limit != nil {
		b.limit.took(now, took, b.active.Load())
	}
	if bad && b.erred(now) {
		return
	}
	if !bad && t.errors.Load() != 0 {
		t.errors.Store(0)
	}
	if t.away.Load() != 0 {
		b.returned(now)
	}
}

// erred counts a 5xx and ejects the backend when they run while others do
// better, and reports whether it did, or keeps it ejected.
func (b *Backend) erred(now time.Time) bool {
	t := &b.trust
	n := t.errors.Add(1)
	if b.pool.spec.NoEjection || n < errorRun && t.away.Load() == 0 || !b.pool.othersAnswer(b, now.UnixNano()) {
		return false
	}
	t.last.Store(&lastFailure{now, "it answers 5xx while others do not"})
	b.eject(now)
	return true
}

// reached takes note of a tunnel's connection.
func (b *Backend) reached() {
	t := &b.trust
	if t.failing.Load() {
		t.failing.Store(false)
		t.absent.Store(false)
		t.broken.Store(0)
	}
	if t.away.Load() != 0 {
		b.returned(time.Now())
	}
}

// returned ends an ejection: the backend starts slowly.
func (b *Backend) returned(now time.Time) {
	if b.trust.restore() {
		b.risen.Store(now.UnixNano())
		b.pool.changed()
	}
}

// hasOther reports whether somebody else would get the work of a backend: the
// last one is not ejected for what may be the fault of a request.
func (p *Pool) hasOther(b *Backend, now int64) bool {
	for _, o := range p.Backends() {
		if o != b && o.usable() && !o.poor(now, false) {
			return true
		}
	}
	return false
}

// othersAnswer reports whether the latest answer of somebody else was no 5xx.
func (p *Pool) othersAnswer(b *Backend, now int64) bool {
	for _, o := range p.Backends() {
		if o != b && o.usable() && !o.poor(now, false) && o.trust.errors.Load() == 0 && o.stats.Load() != nil {
			return true
		}
	}
	return false
}
