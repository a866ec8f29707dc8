package vm

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/upstream/names"
	"usher/vm/discover"
)

// Machine is one VM as its backends see it. There is one for each name of
// [vms], kept over reloads. It is safe for concurrent use; Begin, End and
// Drained cost an atomic operation each, Reached an atomic load once the VM is
// known to run.
type Machine struct {
	Name string

	fleet   *Fleet
	epoch   time.Time    // what ended counts from
	active  atomic.Int64 // exchanges and tunnels
	ended   atomic.Int64 // when the last one ended: nanoseconds since epoch
	drained atomic.Bool
	awaited atomic.Bool // Reached has something to say
	spec    atomic.Pointer[Spec]
	feed    names.Feed
	wake    chan struct{} // the supervisor looks again; capacity 1
	look    chan struct{} // discovery looks again; capacity 1

	mu     sync.Mutex
	life   life            // mu
	source discover.Source // mu; nil without discovery
}

func newMachine(f *Fleet, name string) *Machine {
	m := &Machine{Name: name, fleet: f, epoch: time.Now(), wake: make(chan struct{}, 1), look: make(chan struct{}, 1)}
	m.spec.Store(Spec{Name: name}.withDefaults())
	m.awaited.Store(true)
	m.life = life{since: m.epoch, idleFrom: m.epoch}
	return m
}

// Begin counts an exchange or a tunnel in: the VM is not idle.
func (m *Machine) Begin() { m.active.Add(1) }

// End counts it out.
func (m *Machine) End() {
	if m.active.Add(-1) == 0 {
		m.ended.Store(int64(time.Since(m.epoch)))
	}
}

// Drained reports whether the VM gets no new work.
func (m *Machine) Drained() bool { return m.drained.Load() }

// CanStart reports whether the VM has a start hook.
func (m *Machine) CanStart() bool {
	s := m.spec.Load()
	return s != nil && len(s.Start) > 0
}

// NotStarted is why a VM cannot be started now.
type NotStarted struct {
	VM   string
	Next time.Time // when it is tried again, should somebody ask; zero: nobody knows
	Err  error
}

// Error says why, and until when nothing is tried.
func (e *NotStarted) Error() string {
	if e.Next.IsZero() {
		return fmt.Sprintf("VM %q is not started: %v", e.VM, e.Err)
	}
	return fmt.Sprintf("VM %q is not started before %s: %v", e.VM, e.Next.Format(time.TimeOnly), e.Err)
}

// Unwrap is the failure of the latest start.
func (e *NotStarted) Unwrap() error { return e.Err }

var (
	errNoHook  = errors.New("it has no start hook")
	errDrained = errors.New("it is drained")
	errEnding  = errors.New("usher is ending")
)

// Start has the VM started unless it is being started already, and says until
// when it is worth waiting for it. It does not wait. err, a *NotStarted, says
// why it cannot be started now (the hook failed, start_timeout passed: not
// tried again for a while) or that there is no hook.
func (m *Machine) Start() (until time.Time, err error) {
	if !m.CanStart() {
		return time.Time{}, &NotStarted{VM: m.Name, Err: errNoHook}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.start(time.Now())
}

// Reached tells that a connection or a check of the VM succeeded.
func (m *Machine) Reached() {
	if !m.awaited.Load() {
		return
	}
	m.mu.Lock()
	text := m.reached(time.Now())
	m.mu.Unlock()
	m.tell(Event{Text: text})
}

// Unhealthy tells that checks of an address of the VM fail since a time; the
// zero time says that they do not any more, or that nobody checks it any more.
func (m *Machine) Unhealthy(address string, since time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life.unhealthy = put(m.life.unhealthy, address, since, !since.IsZero())
	m.nudge()
}

// Healthy tells that checks of an address of the VM pass, or, if not, that they
// fail or that nobody checks it any more. A VM of which one checked address is
// healthy is not restarted for the sake of another one.
func (m *Machine) Healthy(address string, yes bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.life.healthy = put(m.life.healthy, address, struct{}{}, yes)
	m.nudge()
}

// put sets or deletes an entry of a map that is made when it is needed.
func put[V any](in map[string]V, key string, value V, set bool) map[string]V {
	switch {
	case !set:
		delete(in, key)
	case in == nil:
		in = map[string]V{key: value}
	default:
		in[key] = value
	}
	return in
}

// Feed is where discovery says that the VM is. It is the same one for the whole
// life of the Machine; without discovery nothing is ever said.
func (m *Machine) Feed() *names.Feed { return &m.feed }

// nudge has the supervisor look again.
func (m *Machine) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// tell passes an event on; one without a text is none.
func (m *Machine) tell(e Event) {
	if e.Text != "" && m.fleet != nil {
		e.VM = m.Name
		m.fleet.tell(e)
	}
}
