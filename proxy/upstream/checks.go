package upstream

import (
	"sync"
	"time"

	"usher/proxy/upstream/health"
)

// check has the backend checked, if the pool wants that.
func (b *Backend) check() {
	n := b.pool.network
	if b.source.address.Health == nil || n.Checker == nil {
		return
	}
	b.health = n.Checker.Watch(*b.source.address.Health, b.text, b.turned)
	if b.health.State() == health.Unhealthy {
		b.sicken(b.health.Status().Since)
		if b.health.State() != health.Unhealthy { // and turned was told before
			b.heal()
		}
	}
}

// unwatch ends the checks for this pool, which has retired the backend.
func (b *Backend) unwatch() {
	if b.health == nil {
		return
	}
	b.health.Close()
	b.heal()
}

// turned is told of a change of health. Requests that wait for the answer of a
// backend that turned unhealthy are tried elsewhere: where its link was cut, no
// error ever comes. One that recovered is trusted again, however it failed.
func (b *Backend) turned(to health.State) {
	switch to {
	case health.Unhealthy:
		b.sicken(time.Now())
		b.dropIdle()
		b.abortWaiting()
	case health.Healthy:
		if b.heal() {
			b.risen.Store(time.Now().UnixNano())
		}
		b.trust.restore()
		if b.machine != nil {
			b.machine.Reached()
		}
	}
	b.pool.changed()
}

// sicken notes that checks fail since a time.
func (b *Backend) sicken(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.retired && !b.sick {
		b.sick = true
		b.pool.network.sicken(b, since)
	}
}

// heal takes that back, and reports whether there was something to take back.
func (b *Backend) heal() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.sick {
		return false
	}
	b.sick = false
	b.pool.network.heal(b)
	return true
}

// unwellKey is one address of a machine.
type unwellKey struct {
	machine machine
	address string
}

// network is how pools reach their backends, and what several of them know
// together. All generations share it; a pool that knew its Set would keep a
// whole generation from being collected.
type network struct {
	Dialer
	mu     sync.Mutex
	unwell map[unwellKey]int // mu; how many backends are unhealthy there
}

// sicken tells the machine of a backend that its checks fail, once for all
// pools that find so.
func (n *network) sicken(b *Backend, since time.Time) {
	if b.machine == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := unwellKey{b.machine, b.text}
	if n.unwell[k]++; n.unwell[k] == 1 {
		b.machine.Unhealthy(b.text, since)
	}
}

// heal takes that back when the last of them finds otherwise.
func (n *network) heal(b *Backend) {
	if b.machine == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	k := unwellKey{b.machine, b.text}
	if n.unwell[k]--; n.unwell[k] == 0 {
		delete(n.unwell, k)
		b.machine.Unhealthy(b.text, time.Time{})
	}
}
