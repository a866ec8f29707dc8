package vm

import (
	"fmt"
	"time"
)

// job is what a supervisor has to do.
type job uint8

const (
	nothing job = iota
	startIt
	stopIt
	restartIt
)

// due is what is to be done now, or how long there will be nothing to do unless
// something happens; zero is for ever.
func (m *Machine) due(now time.Time) (job, time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, s := &m.life, m.spec.Load()
	if l.state == Starting {
		switch {
		case !l.called && !now.Before(l.again):
			return startIt, 0
		case now.Before(l.until):
			return nothing, until(now, l.until, l.again)
		}
		m.failed(now, Running, fmt.Errorf("it did not answer within %s after its start", s.StartTimeout))
	}
	if m.Drained() || l.state != Running && l.state != Unknown {
		return nothing, 0
	}
	restart, stop := m.restartAt(s), m.stopAt(s, now)
	switch {
	case !restart.IsZero() && !now.Before(restart):
		return restartIt, 0
	case !stop.IsZero() && !now.Before(stop):
		return stopIt, 0
	}
	return nothing, until(now, restart, stop)
}

// until is the time until the first of the moments that are set and to come.
func until(now time.Time, moments ...time.Time) time.Duration {
	var first time.Duration
	for _, at := range moments {
		if d := at.Sub(now); !at.IsZero() && d > 0 && (first == 0 || d < first) {
			first = d
		}
	}
	return first
}

// restartAt is when the restart hook is due; zero if it is not. A VM that may
// just be asleep is not restarted. mu is held.
func (m *Machine) restartAt(s *Spec) time.Time {
	l := &m.life
	if len(s.Restart) == 0 || !l.sick() || l.state == Unknown && len(s.Start) > 0 {
		return time.Time{}
	}
	var first time.Time
	for _, since := range l.unhealthy {
		if first.IsZero() || since.Before(first) {
			first = since
		}
	}
	at := latest(first, l.born).Add(s.RestartAfter)
	if !l.restarted.IsZero() {
		at = latest(at, l.restarted.Add(s.RestartEvery))
	}
	return at
}

// stopAt is when the VM has been idle for long enough; zero if that does not
// matter. mu is held.
func (m *Machine) stopAt(s *Spec, now time.Time) time.Time {
	if len(s.Stop) == 0 || s.IdleStop <= 0 {
		return time.Time{}
	}
	if m.active.Load() > 0 {
		return now.Add(s.IdleStop)
	}
	return latest(m.idleSince(), m.life.idleFrom).Add(s.IdleStop)
}

// idleSince is when the last exchange or tunnel ended.
func (m *Machine) idleSince() time.Time { return m.epoch.Add(time.Duration(m.ended.Load())) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
