package upstream

import (
	"fmt"
	"time"

	"usher/proxy/message"
)

// machine is what a backend asks and tells of its VM; *vm.Machine does.
type machine interface {
	Begin()
	End()
	Drained() bool
	CanStart() bool
	Start() (until time.Time, err error)
	Reached()
	Unhealthy(address string, since time.Time)
	Healthy(address string, yes bool)
}

// machine is the VM of an address, nil when it has no name.
func (a *Address) machine() machine {
	if a.VM == nil {
		return nil
	}
	return a.VM
}

// asleep has the VM of a backend started that nobody can be sent to, because
// its checks fail or nobody knows where it is, and leaves the backend. Where it
// cannot be started, an unhealthy backend is tried all the same: nil.
func (b *Backend) asleep() *failure {
	lost := b.unresolved()
	if !lost && !b.unhealthy() {
		return nil
	}
	if b.machine != nil && b.machine.CanStart() {
		if until, err := b.machine.Start(); err == nil {
			b.leave()
			return &failure{err: errWaking, replay: true, idle: true, starting: until, backend: b}
		}
	}
	if !lost {
		return nil
	}
	b.leave()
	err := &message.Error{
		Side: message.VMSide, Status: 503, Replay: true, RetryAfter: 5 * time.Second,
		Err: fmt.Errorf("resolve %s: %w", b.text, b.whyUnresolved()),
	}
	return &failure{err: err, replay: true, idle: true, backend: b}
}

// wake has a VM started when all of them failed, the first that does not take
// connections and can be started.
func (e *effort) wake() {
	for _, b := range e.pool.Backends() {
		if !b.usable() || b.machine == nil || !b.machine.CanStart() {
			continue
		}
		if !b.trust.absent.Load() && !b.unhealthy() && !b.unresolved() {
			continue
		}
		until, err := b.machine.Start()
		if err == nil {
			e.hold.wakes(until, e.browser)
			e.hold.asleep = nil
			return
		}
		e.hold.asleep = err
	}
}
