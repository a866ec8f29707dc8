package vm

import (
	"fmt"
	"time"
)

// State is what a machine is doing.
type State uint8

// The states of a machine.
const (
	Unknown    State = iota // not reached yet since usher started
	Running                 // reached, or said to run
	Asleep                  // stopped by us, or said to be off
	Starting                // until it is reached, or start_timeout has passed
	Stopping                // the stop hook runs
	Restarting              // the restart hook runs
)

// String is the state's name in status and logs.
func (s State) String() string {
	return [...]string{"unknown", "running", "asleep", "starting", "stopping", "restarting"}[s]
}

const (
	hookLimit    = time.Minute     // for stop and restart hooks
	firstBackoff = 5 * time.Second // after a start that failed; doubles
	lastBackoff  = time.Minute
	firstAgain   = time.Second // before a start hook is run again that found the VM shutting down; doubles
)

// life is what a machine does and why. Machine.mu guards it.
type life struct {
	state State
	since time.Time // of state
	why   string
	hook  *HookResult // the latest

	until  time.Time // Starting: how long it is worth waiting
	from   State     // Starting: the state before
	called bool      // Starting: the hook has ended well
	met    bool      // Starting: reached while the hook ran
	again  time.Time // Starting: when the hook is run once more
	pause  time.Duration
	wanted bool // Stopping: somebody asked for a start

	failures int         // starts in a row
	next     time.Time   // no start before
	refusal  *NotStarted // what Start says until then

	idleFrom  time.Time // the idle clock's beginning, should nothing have ended since
	stopped   time.Time // when the stop hook ended, until the next start
	born      time.Time // when it was last started, restarted or undrained
	restarted time.Time // when the restart hook last began
	unhealthy map[string]time.Time
	healthy   map[string]struct{}
	ended     bool // nobody supervises it any more
}

// sick reports whether the checks of the VM fail.
func (l *life) sick() bool { return len(l.unhealthy) > 0 && len(l.healthy) == 0 }

// shuttingDown reports whether the VM may not be through with a stop: many stop
// hooks only ask for it.
func (l *life) shuttingDown(now time.Time) bool {
	return l.state == Asleep && now.Sub(l.stopped) < hookLimit
}

// enter changes the state. mu is held.
func (m *Machine) enter(s State, why string) {
	m.life.state, m.life.since, m.life.why = s, time.Now(), why
	m.await()
	m.nudge()
}

// await has Reached tell us exactly when it matters. mu is held.
func (m *Machine) await() {
	m.awaited.Store(m.life.state != Running || m.life.failures > 0)
}

// start is Start. mu is held.
func (m *Machine) start(now time.Time) (time.Time, error) {
	l, timeout := &m.life, m.spec.Load().StartTimeout
	switch {
	case l.ended:
		return time.Time{}, &NotStarted{VM: m.Name, Err: errEnding}
	case l.state == Starting:
		return l.until, nil
	case m.Drained():
		return time.Time{}, &NotStarted{VM: m.Name, Err: errDrained}
	case l.state == Stopping:
		l.wanted = true
		return now.Add(hookLimit + timeout), nil
	case l.state == Restarting:
		return now.Add(hookLimit + timeout), nil
	case now.Before(l.next):
		return time.Time{}, l.refusal
	case l.state == Running && len(l.healthy) > 0 && now.Before(l.until):
		return l.until, nil // it was just started, and not all of it answers at the same time
	}
	m.begin(now, "somebody wants it")
	return l.until, nil
}

// begin begins a start. mu is held.
func (m *Machine) begin(now time.Time, why string) {
	l := &m.life
	l.until, l.from, l.called, l.met = now.Add(m.spec.Load().StartTimeout), l.state, false, false
	l.again, l.pause, l.wanted = time.Time{}, firstAgain, false
	m.enter(Starting, why)
	select {
	case m.look <- struct{}{}:
	default:
	}
}

// failed notes that a start came to nothing. mu is held.
func (m *Machine) failed(now time.Time, back State, err error) {
	l := &m.life
	l.failures++
	l.idleFrom = now
	l.next = now.Add(min(firstBackoff<<min(l.failures-1, 8), lastBackoff))
	l.refusal = &NotStarted{VM: m.Name, Next: l.next, Err: err}
	m.enter(back, err.Error())
}

// reached is Reached; it returns what there is to tell. As long as checks fail,
// a connection proves nothing: the kernel of a VM that hangs may still accept
// it. mu is held.
func (m *Machine) reached(now time.Time) string {
	l := &m.life
	switch {
	case l.sick() || l.state == Stopping || l.state == Restarting:
		return ""
	case l.state == Starting && !l.called:
		l.met = true
		return ""
	case l.shuttingDown(now):
		return ""
	}
	text := ""
	if l.state == Starting {
		text = fmt.Sprintf("answers %s after its start began", now.Sub(l.since).Round(time.Millisecond))
	}
	if l.state != Running {
		l.idleFrom = now
		m.enter(Running, "it answers")
	}
	l.failures, l.next = 0, time.Time{}
	m.await()
	return text
}

// off notes what discovery says of the VM: why it is off, or that it runs. mu
// is held.
func (m *Machine) off(why string) {
	l, now := &m.life, time.Now()
	switch {
	case why != "" && (l.state == Running || l.state == Unknown):
		m.enter(Asleep, why)
	case why != "" && l.state == Asleep && l.why != why:
		l.why = why
	case why == "" && l.state == Asleep && !l.shuttingDown(now):
		l.born, l.idleFrom = now, now
		m.enter(Running, "discovery says that it runs")
	}
}
