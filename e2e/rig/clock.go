package rig

import (
	"sync"
	"sync/atomic"
	"time"
)

// beat is how often the clock looks, pause how late it has to be for that to
// count: a machine that others use as well stands still for seconds at times,
// for these tests and for usher alike.
const (
	beat  = 5 * time.Millisecond
	pause = 50 * time.Millisecond
)

var (
	lost  atomic.Int64 // nanoseconds of all pauses
	watch = sync.OnceFunc(func() { go count() })
)

func count() {
	for last := time.Now(); ; {
		time.Sleep(beat)
		now := time.Now()
		if late := now.Sub(last) - beat; late > pause {
			lost.Add(int64(late))
		}
		last = now
	}
}

// Moment is when something began.
type Moment struct {
	time.Time
	lost int64
}

// Now is this moment.
func Now() Moment {
	watch()
	return Moment{time.Now(), lost.Load()}
}

// Took is how long it has been since, not counting the pauses in which the
// machine did not run this process: for what must not take longer than it may.
func (m Moment) Took() time.Duration {
	d := time.Since(m.Time)
	time.Sleep(2 * beat) // a pause that has just ended is counted
	return d - time.Duration(lost.Load()-m.lost)
}
