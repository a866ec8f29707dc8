package upstream

import (
	"slices"
	"time"
)

// wish is what a request asks of the choice of its backend.
type wish struct {
	affinity Affinity
	sticky   *Backend   // of the visitor's cookie; nil for none
	again    bool       // it may be sent again if it fails, so it may probe
	tried    []*Backend // not these
	start    time.Time  // of the attempt
	now      int64      // start in Unix nanoseconds
}

// begin is told that an attempt begins.
func (w *wish) begin(t time.Time) { w.start, w.now = t, t.UnixNano() }

// lack is why there is no backend for a request.
type lack uint8

const (
	nothing  lack = iota
	untried       // none is left that was not tried
	drained       // the operator wants no work on any of them
	occupied      // all that could take it are at their limits
)

// usable reports whether the backend takes new work at all.
func (b *Backend) usable() bool { return b.weight > 0 && !b.drained() }

// poor reports whether the backend is used only when no other can be.
func (b *Backend) poor(now int64, mayProbe bool) bool {
	return b.unresolved() || b.unhealthy() || b.trust.out(now, mayProbe)
}

// tier is how late the backend comes in the choice; negative: not at all.
// Those that are unhealthy or ejected come last, but they come: better try
// than refuse. Of them, one whose latest attempt worked comes first: checks may
// not have found yet that it is back.
func (b *Backend) tier(w *wish) int {
	if !b.usable() || slices.Contains(w.tried, b) {
		return -1
	}
	n := 0
	switch {
	case !b.poor(w.now, w.again):
	case b.unresolved() || b.trust.failing.Load():
		n = 4
	default:
		n = 2
	}
	if b.backup {
		n++
	}
	return n
}

const tiers = 6

// choose enters a backend for a request. It does not wait.
func (p *Pool) choose(w *wish) (*Backend, lack) {
	all := p.Backends()
	if len(all) == 1 {
		return only(all[0], w)
	}
	if s := w.sticky; s != nil && !s.drained() && !s.poor(w.now, w.again) && !slices.Contains(w.tried, s) {
		if s.enter() {
			return s, nothing
		}
		return nil, occupied // a session is worth waiting for
	}
	var stack [32]*Backend
	for tier := range tiers {
		fit := stack[:0]
		for _, b := range all {
			if b.tier(w) == tier {
				fit = append(fit, b)
			}
		}
		if len(fit) == 0 {
			continue
		}
		full := false
		for len(fit) > 0 {
			b := p.best(fit, w)
			if tier >= 2 || b.trust.claim(w.now) {
				if b.enter() {
					return b, nothing
				}
				full = true
			}
			fit = slices.DeleteFunc(fit, func(x *Backend) bool { return x == b })
		}
		if full {
			return nil, occupied
		}
	}
	return nil, p.shortage()
}

// only is the choice among one.
func only(b *Backend, w *wish) (*Backend, lack) {
	switch {
	case b.weight == 0 || b.drained():
		return nil, drained
	case len(w.tried) > 0:
		return nil, untried
	case !b.enter():
		return nil, occupied
	}
	return b, nothing
}

// shortage is why no backend was fit.
func (p *Pool) shortage() lack {
	for _, b := range p.Backends() {
		if b.usable() {
			return untried
		}
	}
	return drained
}

// left reports whether a backend is left that was not tried.
func (p *Pool) left(w *wish) bool {
	for _, b := range p.Backends() {
		if b.tier(w) >= 0 {
			return true
		}
	}
	return false
}
