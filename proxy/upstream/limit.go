package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// limit finds how many exchanges a backend can do at once before they only wait
// for each other, from how its latency differs from what it is without a queue
// (the gradient): while the latency is that of an idle VM the limit grows, when
// it is a multiple of that it shrinks. What is beyond it is shed, so that an
// overloaded VM goes on answering those that it takes.
type limit struct {
	value atomic.Int64 // the limit
	shed  atomic.Bool  // an attempt failed in this window

	mu    sync.Mutex // never waited for
	exact float64
	idle  float64 // seconds; latency without a queue
	began time.Time
	sum   float64 // seconds, of the window
	count int
	most  int64 // at once in the window
}

const (
	limitFirst  = 20
	limitLeast  = 4
	limitMost   = 10_000
	limitWindow = 100 * time.Millisecond
	limitCount  = 10  // samples that a window has at least
	tolerance   = 1.5 // times the latency without a queue is no overload
	smoothing   = .2
	forgetting  = 1.02 // of the latency without a queue, each window
)

func newLimit() *limit {
	l := &limit{exact: limitFirst}
	l.value.Store(limitFirst)
	return l
}

func (l *limit) now() int64 { return l.value.Load() }

// overloaded is told of an attempt that failed.
func (l *limit) overloaded() { l.shed.Store(true) }

// took counts the latency of an exchange that was one of so many at once. A
// sample that another goroutine is in the way of is left out.
func (l *limit) took(now time.Time, d time.Duration, active int64) {
	if !l.mu.TryLock() {
		return
	}
	defer l.mu.Unlock()
	if l.began.IsZero() {
		l.began = now
	}
	l.sum += d.Seconds()
	l.count++
	l.most = max(l.most, active)
	if l.count >= limitCount && now.Sub(l.began) >= limitWindow {
		l.adjust()
		l.began, l.sum, l.count, l.most = now, 0, 0, 0
	}
}

// adjust ends a window. mu is held.
func (l *limit) adjust() {
	latency := max(l.sum/float64(l.count), 1e-6)
	loaded := float64(l.most) >= l.exact/2
	switch {
	case l.idle == 0 || latency < l.idle:
		l.idle = latency
	case !loaded || l.exact <= 2*limitLeast:
		// There is hardly a queue: answers take longer than they did.
		l.idle = min(l.idle*forgetting, latency)
	}
	gradient := 1.
	if loaded {
		gradient = min(max(tolerance*l.idle/latency, .5), 1)
	}
	if l.shed.Swap(false) {
		gradient = min(gradient, .9)
	}
	next := l.exact * gradient
	if loaded && gradient == 1 {
		next += math.Sqrt(l.exact)
	}
	l.exact = min(max(l.exact+(next-l.exact)*smoothing, limitLeast), limitMost)
	l.value.Store(int64(l.exact))
}
