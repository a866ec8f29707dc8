package tls

import (
	"math/rand/v2"
	"time"
)

// pace is how fast things are done.
type pace struct {
	retry, mostRetry time.Duration // after the first failure, doubling, to this
	limited          time.Duration // at least this after a rate limit was met
	attempt          time.Duration // an order that takes longer has failed
	settle           time.Duration // between two orders of one name, whatever the CA says
	look             time.Duration // between two looks at the CA's renewal window, unless it says
	staple           time.Duration // between two looks at an OCSP response
}

func usualPace() pace {
	return pace{
		retry: time.Minute, mostRetry: 6 * time.Hour, limited: time.Hour,
		attempt: 10 * time.Minute, settle: 10 * time.Minute,
		look: 6 * time.Hour, staple: time.Hour,
	}
}

// backOff is the wait after so many failures in a row, up to a fifth shorter or
// longer, so that names that failed together do not come back together.
func (p pace) backOff(failures int) time.Duration {
	wait := p.mostRetry
	if n := failures - 1; n < 30 && p.retry<<n < wait {
		wait = p.retry << n
	}
	return time.Duration(float64(wait) * (0.8 + 0.4*rand.Float64()))
}

// window lets at most events happen in any span. Without events it lets all.
type window struct {
	events int
	span   time.Duration
	past   []time.Time // the last ones, a ring
	next   int
}

// ready is when the next event may happen; now or earlier means now.
func (w *window) ready() time.Time {
	if len(w.past) < w.events || w.events == 0 {
		return time.Time{}
	}
	return w.past[w.next].Add(w.span)
}

func (w *window) happened(now time.Time) {
	switch {
	case w.events == 0:
	case len(w.past) < w.events:
		w.past = append(w.past, now)
	default:
		w.past[w.next] = now
		w.next = (w.next + 1) % w.events
	}
}
