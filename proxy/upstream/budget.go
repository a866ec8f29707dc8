package upstream

import (
	"sync/atomic"
	"time"
)

// budget is how often requests may be sent once more to another backend: once
// for every five requests, so that a failing site is not asked twice as much
// as a working one. What is saved up serves for the moment in which a backend
// dies with everything that it was doing. A site with few visitors may retry
// once a second all the same.
type budget struct {
	saved  atomic.Int64 // fifths of a retry
	refill atomic.Int64 // when that second began, in Unix nanoseconds
}

const (
	retryCost   = 5
	budgetFirst = 10 * retryCost
	budgetMost  = 1000 * retryCost
)

func (b *budget) init() { b.saved.Store(budgetFirst) }

// earn is called for every request. A site without failures soon has saved
// what it can; then this is a read.
func (b *budget) earn() {
	if b.saved.Load() < budgetMost {
		b.saved.Add(1)
	}
}

// spend takes a retry out, if there is one.
func (b *budget) spend(now time.Time) bool {
	for {
		n := b.saved.Load()
		if n < retryCost {
			return b.trickle(now.UnixNano())
		}
		if b.saved.CompareAndSwap(n, n-retryCost) {
			return true
		}
	}
}

// trickle is the retry of each second.
func (b *budget) trickle(now int64) bool {
	at := b.refill.Load()
	return now-at >= int64(time.Second) && b.refill.CompareAndSwap(at, now)
}
