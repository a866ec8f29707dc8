package upstream

import (
	"sync"
	"time"

	"usher/proxy/upstream/health"
)

// check has the backend checked, if its address wants that; many says that it
// is one of several of the same name.
func (b *Backend) check(many bool) {
	n, a := b.pool.network, b.source.address
	want := a.Health
	if want == nil || a.IfMany && !many || n.Checker == nil {
		return
	}
	b.health = n.Checker.Watch(*want, b.text, b.turned)
	for s := b.health.Status(); ; { // turned may have been told meanwhile
		b.tell(s.State, s.Since)
		again := b.health.Status()
		if again.State == s.State {
			return
		}
		s = again
	}
}

// unwatch ends the checks for this pool, which has retired the backend.
func (b *Backend) unwatch() {
	if b.health != nil {
		b.health.Close()
	}
	b.tell(health.Unknown, time.Time{})
}

// turned is told of a change of health. Requests that wait for the answer of a
// backend that turned unhealthy are tried elsewhere: where its link was cut, no
// error ever comes. One that recovered is trusted again, however it failed.
func (b *Backend) turned(to health.State) {
	was := b.tell(to, time.Now())
	switch to {
	case health.Unhealthy:
		b.dropIdle()
		b.abortWaiting()
	case health.Healthy:
		if was == health.Unhealthy {
			b.risen.Store(time.Now().UnixNano())
		}
		b.trust.restore()
		if b.machine != nil {
			b.machine.Reached()
		}
	}
	b.pool.changed()
}

// tell tells the machine what the checks say since a time, and returns what
// they said before.
func (b *Backend) tell(to health.State, since time.Time) (was health.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.retired {
		to = health.Unknown
	}
	was, b.told = b.told, to
	if b.machine != nil && was != to {
		b.pool.network.tell(place{b.machine, b.text}, was, to, since)
	}
	return was
}

// network is how pools reach their backends, and what several of them know
// together. All generations share it; a pool that knew its Set would keep a
// whole generation from being collected.
type network struct {
	Dialer
	mu    sync.Mutex
	said  map[place]*said // mu
	gates map[place]*gate // mu
	pools map[key]*Pool   // mu; that are not retired
	plans uint64          // mu
}

// pool is the newest one with a key, or nil.
func (n *network) pool(k key) *Pool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pools[k]
}

func (n *network) remember(p *Pool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pools[p.key] = p
}

func (n *network) forget(p *Pool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pools[p.key] == p {
		delete(n.pools, p.key)
	}
}

// place is one address, on a machine if that is known.
type place struct {
	machine machine
	address string
}

// said is how many backends at a place are in which state.
type said struct{ healthy, unhealthy int }

// tell has the machine hear once of what the backends of several pools find.
func (n *network) tell(at place, was, to health.State, since time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.said[at]
	if s == nil {
		s = &said{}
		n.said[at] = s
	}
	before := *s
	s.count(to, 1)
	s.count(was, -1)
	if (before.unhealthy > 0) != (s.unhealthy > 0) {
		if s.unhealthy == 0 {
			since = time.Time{}
		}
		at.machine.Unhealthy(at.address, since)
	}
	if (before.healthy > 0) != (s.healthy > 0) {
		at.machine.Healthy(at.address, s.healthy > 0)
	}
	if *s == (said{}) {
		delete(n.said, at)
	}
}

func (s *said) count(state health.State, n int) {
	switch state {
	case health.Healthy:
		s.healthy += n
	case health.Unhealthy:
		s.unhealthy += n
	}
}
