package h2

import "time"

// granularity is how often the time limits of streams are looked at. One
// timer per connection does: none of the limits needs to be exact.
const granularity = time.Second

// every is granularity, finer where a limit is short.
func every(limits ...time.Duration) time.Duration {
	d := granularity
	for _, l := range limits {
		if l > 0 {
			d = min(d, max(l/4, 5*time.Millisecond))
		}
	}
	return d
}

// arm makes the timer fire within d. mu is held.
func (m *mux) arm(now time.Time, d time.Duration) {
	at := now.Add(d)
	switch {
	case d == 0 || !m.armed.IsZero() && !m.armed.After(at) || m.dead != nil:
		return
	case m.timer == nil:
		m.timer = time.AfterFunc(d, m.fired)
	default:
		m.timer.Reset(d)
	}
	m.armed = at
}

// fired looks at all time limits.
func (m *mux) fired() {
	var later []owner
	m.mu.Lock()
	m.armed = time.Time{}
	if m.dead != nil {
		m.mu.Unlock()
		return
	}
	now := time.Now()
	for _, s := range m.streams {
		if s.owner.tick(now) {
			later = append(later, s.owner)
		}
	}
	m.arm(now, m.side.tick(now))
	m.kick()
	m.mu.Unlock()
	for _, o := range later {
		o.after()
	}
}

// over reports whether something that began at since has lasted too long.
func over(since, now time.Time, limit time.Duration) bool {
	return limit > 0 && !since.IsZero() && now.Sub(since) >= limit
}
