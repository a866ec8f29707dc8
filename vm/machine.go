package vm

import (
	"time"

	"usher/proxy/upstream/names"
)

// Machine is one VM as its backends see it. There is one for each name of
// [vms], kept over reloads. It is safe for concurrent use; Begin, End and
// Drained cost an atomic operation each.
type Machine struct{ Name string }

// Begin counts an exchange or a tunnel in: the VM is not idle.
func (m *Machine) Begin() {}

// End counts it out.
func (m *Machine) End() {}

// Drained reports whether the VM gets no new work.
func (m *Machine) Drained() bool { return false }

// CanStart reports whether the VM has a start hook.
func (m *Machine) CanStart() bool { return false }

// Start has the VM started unless it is being started already, and says until
// when it is worth waiting for it. It does not wait. err says why it cannot be
// started now (the hook failed, start_timeout passed: not tried again for a
// while) or that there is no hook.
func (m *Machine) Start() (until time.Time, err error) { return time.Time{}, nil }

// Reached tells that a connection or a check of the VM succeeded.
func (m *Machine) Reached() {}

// Unhealthy tells that checks of the VM fail since a time; the zero time says
// that they do not any more.
func (m *Machine) Unhealthy(address string, since time.Time) {}

// Feed is where discovery says that the VM is; nil without discovery.
func (m *Machine) Feed() *names.Feed { return nil }
