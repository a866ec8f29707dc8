package upstream

import (
	"time"

	"usher/proxy/upstream/health"
)

// State is what people want to know of a backend.
type State struct {
	Address string // that is dialed
	Source  string // as it was configured, a name for instance
	VM      string // its name in [vms]; empty when it has none
	Backup  bool

	// Status is "healthy" or "unknown" (not checked yet, or not at all), which
	// take work; "probing" (half open) and "starting slowly", which take some;
	// and "unhealthy", "ejected", "unresolved", "drained" and "off" (weight 0),
	// which take none while another does.
	Status string
	Why    string    // of the last five and of "probing"; else empty
	Since  time.Time // zero when that is not known

	Checks health.Status // zero when it is not checked

	Active    int64 // exchanges and tunnels now
	Idle      int   // connections kept
	Limit     int64 // of exchanges and tunnels at once; 0: none
	Exchanges uint64
	Failures  uint64
	Ejections uint64
	Retries   uint64 // exchanges that were tried elsewhere after it had failed
	Latency   Latency

	Failing   bool // the latest attempt failed
	LastError string
	FailedAt  time.Time
}

// State is the backend now.
func (b *Backend) State() State {
	now := time.Now()
	s := State{
		Address: b.text, Source: b.source.text, Backup: b.backup,
		Active: b.active.Load(), Idle: b.kept(), Limit: b.most, Failing: b.trust.failing.Load(),
	}
	if m := b.source.address.VM; m != nil {
		s.VM = m.Name
	}
	if b.health != nil {
		s.Checks = b.health.Status()
	}
	if g := b.gate; g != nil && (s.Limit == 0 || g.most.Load() < s.Limit) {
		s.Limit = g.most.Load()
	}
	if b.limit != nil && (s.Limit == 0 || b.limit.now() < s.Limit) {
		s.Limit = b.limit.now()
	}
	if t := b.stats.Load(); t != nil {
		s.Exchanges, s.Failures, s.Ejections, s.Retries = t.exchanges.Load(), t.failures.Load(), t.ejections.Load(), t.retries.Load()
		s.Latency = t.latency(now)
	}
	if f := b.trust.last.Load(); f != nil {
		s.LastError, s.FailedAt = f.text, f.at
	}
	s.Status, s.Why, s.Since = b.status(&s, now)
	return s
}

// kept is how many connections wait for the next exchange.
func (b *Backend) kept() int {
	if b.shared != nil {
		return b.shared.unused()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.idle)
}

func (b *Backend) status(s *State, now time.Time) (status, why string, since time.Time) {
	away := b.trust.away.Load()
	risen := b.risen.Load()
	switch {
	case b.drained():
		return "drained", "by the operator", time.Time{}
	case b.weight == 0:
		return "off", "its weight is 0", time.Time{}
	case b.unresolved():
		return "unresolved", b.whyUnresolved().Error(), time.Time{}
	case b.unhealthy():
		return "unhealthy", s.Checks.Reason, s.Checks.Since
	case away > now.UnixNano():
		return "ejected", s.LastError, time.Unix(0, b.trust.since.Load())
	case away != 0:
		return "probing", s.LastError, time.Unix(0, b.trust.since.Load())
	case risen != 0 && b.pool.spec.SlowStart > 0 && now.UnixNano()-risen < int64(b.pool.spec.SlowStart):
		return "starting slowly", "", time.Unix(0, risen)
	case b.health != nil:
		return s.Checks.State.String(), "", s.Checks.Since
	}
	return "unknown", "", time.Time{}
}

// Waiting is how many requests wait in the queue of the pool.
func (p *Pool) Waiting() int {
	if p.queue == nil {
		return 0
	}
	return int(p.queue.waiting.Load())
}

// Own is a backend that is one of our own listeners, as a name may turn out to
// be at any time, and is therefore never dialed; nil for none.
func (p *Pool) Own() *Backend {
	for _, b := range p.Look() {
		if p.forbids(b) {
			return b
		}
	}
	return nil
}
