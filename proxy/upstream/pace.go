package upstream

import (
	"math"
	"sync/atomic"
	"time"
)

// pace is the typical latency of a backend and how much it varies, both as
// powers of two of a millisecond: a few very slow answers among fast ones are
// variance, not a slow backend. It takes no lock; an update that two make at
// once may be lost.
type pace struct{ packed atomic.Uint64 }

const paceShare = 1. / 8 // of the newest sample

func (p *pace) load() (mean, spread float64) {
	v := p.packed.Load()
	return float64(math.Float32frombits(uint32(v >> 32))), float64(math.Float32frombits(uint32(v)))
}

func (p *pace) add(d time.Duration) {
	x := math.Log2(max(float64(d)/float64(time.Millisecond), 1))
	mean, spread := p.load()
	spread += (math.Abs(x-mean) - spread) * paceShare
	mean += (x - mean) * paceShare
	p.packed.Store(uint64(math.Float32bits(float32(mean)))<<32 | uint64(math.Float32bits(float32(spread))))
}

// differ reports whether two backends differ beyond noise: by more than a
// factor of two and more than both vary.
func differ(a, b *pace) (costA, costB float64, ok bool) {
	ma, sa := a.load()
	mb, sb := b.load()
	if d := math.Abs(ma - mb); d <= 1 || d <= sa+sb {
		return 1, 1, false
	}
	return math.Exp2(ma), math.Exp2(mb), true
}
