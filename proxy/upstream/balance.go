package upstream

import (
	"math"
	"math/rand/v2"
	"time"
)

// share is the weight of a backend now: one that came back a short while ago
// has only a part of its own, from a tenth on.
func (b *Backend) share(now int64) float64 {
	slow := b.pool.spec.SlowStart
	risen := b.risen.Load()
	if slow <= 0 || risen == 0 {
		return b.weight
	}
	up := time.Duration(now - risen)
	if up >= slow {
		b.risen.CompareAndSwap(risen, 0)
		return b.weight
	}
	return b.weight * max(float64(up)/float64(slow), .1)
}

// best chooses among those that are fit, at least one.
func (p *Pool) best(fit []*Backend, w *wish) *Backend {
	switch {
	case len(fit) == 1:
		return fit[0]
	case w.affinity != 0:
		return w.affinity.best(fit)
	}
	switch p.spec.Balance.Method {
	case RoundRobin:
		return p.inTurn(fit, w.now)
	case LeastConn:
		return leastConn(fit, w.now)
	}
	return random2(fit, w.now)
}

// random2 takes two at random, by their weights, and of those the better one.
func random2(fit []*Backend, now int64) *Backend {
	var total float64
	first, equal := fit[0].share(now), true
	for _, b := range fit {
		s := b.share(now)
		total += s
		equal = equal && s == first
	}
	if equal {
		i := rand.IntN(len(fit))
		j := rand.IntN(len(fit) - 1)
		if j >= i {
			j++
		}
		return better(fit[i], fit[j], 1, 1)
	}
	i, a := draw(fit, total, -1, now)
	j, b := draw(fit, total-a, i, now)
	return better(fit[i], fit[j], a, b)
}

// draw takes one at random by weight, but not the one at skip.
func draw(fit []*Backend, total float64, skip int, now int64) (i int, share float64) {
	at := rand.Float64() * total
	last := 0
	for i, b := range fit {
		if i == skip {
			continue
		}
		share = b.share(now)
		if at -= share; at < 0 {
			return i, share
		}
		last = i
	}
	return last, share // rounding
}

const explore = 16 // one choice in so many does not look at the latency

// better is a, which came first, unless b is clearly better off: it has less
// to do, or it is faster beyond noise and not busier for it. Now and then the
// slower one is asked all the same: how else would it be known that it is fast
// again?
func better(a, b *Backend, shareA, shareB float64) *Backend {
	busyA, busyB := float64(a.active.Load()), float64(b.active.Load())
	if costA, costB, ok := differ(&a.pace, &b.pace); ok && rand.IntN(explore) > 0 {
		if costB*(busyB+1)*shareA < costA*(busyA+1)*shareB {
			return b
		}
		return a
	}
	if shareA == shareB {
		if busyB < busyA {
			return b
		}
		return a
	}
	// With unequal weights the draw alone keeps the shares; only what is more
	// than chance is evened out.
	if busyA >= 2 && (busyA+1)*shareB > 2*(busyB+1)*shareA {
		return b
	}
	return a
}

// leastConn takes the one with the fewest exchanges and tunnels for its
// weight, any of them if there are several.
func leastConn(fit []*Backend, now int64) *Backend {
	var best *Backend
	var least, total float64
	for _, b := range fit {
		share := b.share(now)
		load := float64(b.active.Load()) / share
		switch {
		case best == nil || load < least:
			best, least, total = b, load, share
		case load == least:
			total += share
			if rand.Float64()*total < share {
				best = b
			}
		}
	}
	return best
}

const shareUnit = 64 // of a weight while a backend starts slowly

// inTurn goes round by weight and smoothly: positions of a round are visited in
// steps of about the golden section, which keeps those of each backend apart.
// It takes no lock.
func (p *Pool) inTurn(fit []*Backend, now int64) *Backend {
	unit := 1.
	for _, b := range fit {
		if s := b.share(now); s != math.Trunc(s) {
			unit = shareUnit
		}
	}
	var round, common uint64
	for _, b := range fit {
		n := uint64(b.share(now)*unit + .5)
		round += n
		common = gcd(n, common)
	}
	common = max(common, 1)
	if round /= common; round == 0 {
		return fit[0]
	}
	step := uint64(float64(round)/math.Phi + .5)
	for gcd(step, round) != 1 {
		step++
	}
	at := p.turn.Add(1) % round * step % round
	for _, b := range fit {
		n := uint64(b.share(now)*unit+.5) / common
		if at < n {
			return b
		}
		at -= n
	}
	return fit[len(fit)-1]
}

func gcd(a, b uint64) uint64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
