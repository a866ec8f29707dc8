package socket

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// vigil keeps a Loop from sleeping for the moment in which a VM is likely to
// answer. On a machine that has little to do, being woken for the answer takes
// longer than all that usher does with it. A busy Loop never keeps one, and one
// kept in vain makes the next ones rarer.
type vigil struct {
	awaited atomic.Int32 // answers that somebody waits for
	slept   int64        // Run's, as all below; when it went to sleep
	vain    int          // how many were in vain, one after the other; at most vigilVain
	skip    int          // how many chances are left out yet
}

const (
	vigilTime  = 100 * time.Microsecond // a VM near by that has the answer ready
	vigilAfter = time.Millisecond       // the sleep before it: a tenth of a core is the most that it costs
	vigilVain  = 8                      // up to 255 chances are left out
)

// wanted says, as Run wakes, whether it may keep a vigil before it sleeps
// again.
func (v *vigil) wanted() bool { return now()-v.slept >= int64(vigilAfter) }

// keep waits for the next event, as long as more answers are awaited than
// before what was just told, and reports whether there is one.
func (v *vigil) keep(epoll int, before int32) bool {
	runtime.Gosched() // who was told sends his request
	if v.awaited.Load() <= before {
		return false
	}
	if v.skip > 0 {
		v.skip--
		return false
	}
	for until := now() + int64(vigilTime); ready(epoll, unix.POLLIN) == 0; {
		if now() >= until || v.awaited.Load() <= before {
			v.vain = min(v.vain+1, vigilVain)
			v.skip = 1<<v.vain - 1
			return false
		}
	}
	v.vain = 0
	return true
}
