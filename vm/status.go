package vm

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"usher/vm/discover"
)

// Status is what is known of a VM, for people.
type Status struct {
	Name    string
	State   string    // "drained", or what State.String says
	Since   time.Time // of the state that the VM is in, drained or not
	Why     string
	Drained bool
	Active  int64     // exchanges and tunnels
	LastUse time.Time // when the last one ended; zero: none yet, or in use
	StopsAt time.Time // when it will be idle for long enough; zero: never, or in use
	Starts  bool      // it has a start hook

	StartUntil time.Time   // starting: how long it is worth waiting
	NextStart  time.Time   // no start before; zero: at once
	RestartsAt time.Time   // when the restart hook is due, should nothing change; zero: it is not
	Restarted  time.Time   // when that last began
	Hook       *HookResult // the latest one; nil: none yet

	Discovered bool         // an address is looked for
	Addresses  []netip.Addr // found
	Looked     time.Time    // for addresses, latest
	LookErr    string       // why that failed
}

// Status is what is known of every VM of the configuration, sorted by name.
func (f *Fleet) Status() []Status {
	f.mu.Lock()
	var all []*Machine
	for _, b := range f.members {
		if b.configured {
			all = append(all, b.machine)
		}
	}
	f.mu.Unlock()
	slices.SortFunc(all, func(a, b *Machine) int { return strings.Compare(a.Name, b.Name) })
	states := make([]Status, len(all))
	for i, m := range all {
		states[i] = m.Status()
	}
	return states
}

// Status is what is known of the VM.
func (m *Machine) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	l, spec, now := &m.life, m.spec.Load(), time.Now()
	s := Status{
		Name: m.Name, State: l.state.String(), Since: l.since, Why: l.why, Drained: m.Drained(), Active: m.active.Load(),
		Starts: len(spec.Start) > 0, Restarted: l.restarted, Hook: l.hook, Discovered: spec.Discover != nil,
	}
	idle := l.state == Running || l.state == Unknown
	if s.Drained && (idle || l.state == Asleep) {
		s.State = "drained"
	}
	if s.Active == 0 && m.ended.Load() != 0 {
		s.LastUse = m.idleSince()
	}
	if l.state == Starting {
		s.StartUntil = l.until
	}
	if l.next.After(now) {
		s.NextStart = l.next
	}
	if idle && !s.Drained {
		if s.RestartsAt = m.restartAt(spec); s.Active == 0 {
			s.StopsAt = m.stopAt(spec, now)
		}
	}
	if a := m.feed.Answer(); a != nil && s.Discovered {
		for _, e := range a.Endpoints {
			s.Addresses = append(s.Addresses, e.Addr)
		}
		if s.Looked = a.At; a.Err != nil {
			s.LookErr = a.Err.Error()
		}
	}
	return s
}

// discovered is the event of a change of where a VM is.
func discovered(c discover.Change) Event {
	var texts []string
	for _, a := range c.Addresses {
		texts = append(texts, a.String())
	}
	at := strings.Join(texts, ", ")
	switch {
	case c.Err == nil:
		return Event{Text: "is at " + at}
	case discover.Off(c.Err):
		return Event{Text: fmt.Sprintf("has no address: %v", c.Err)}
	case at == "":
		return Event{Text: "was not found", Err: c.Err}
	}
	return Event{Text: "was not found again; taken to be still at " + at, Err: c.Err}
}
