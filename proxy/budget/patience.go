package budget

import "time"

// A body that trickles is ended: slowBytes in slowSpan of waiting for it.
const (
	slowSpan  = 30 * time.Second
	slowBytes = 30 << 10
)

// Patience is what is known of the pace of a body, counted only while somebody
// waits for it. Its zero value is ready; it has no lock of its own.
type Patience struct {
	bytes  int64
	waited time.Duration
}

// Arrived counts bytes that ended a wait of w.
func (p *Patience) Arrived(n int, w time.Duration) {
	p.bytes += int64(n)
	p.waited += w
}

// Left is how long a wait that begins now may last before Over is worth
// asking; 0 means for ever.
func (p *Patience) Left(idle time.Duration) time.Duration {
	if idle == 0 {
		return 0
	}
	return min(idle, max(slowSpan-p.waited, time.Millisecond))
}

// Over reports whether a wait that began at since is one too many: longer than
// idle, or slower than 1 KiB a second over 30 s.
func (p *Patience) Over(since, now time.Time, idle time.Duration) bool {
	if idle == 0 || since.IsZero() {
		return false
	}
	w := now.Sub(since)
	if w >= idle {
		return true
	}
	if p.waited+w < slowSpan {
		return false
	}
	slow := p.bytes < slowBytes
	if !slow {
		p.bytes, p.waited = 0, -w // this wait was judged up to now
	}
	return slow
}
