package vm

import (
	"context"
	"path/filepath"
	"sync"
	"time"

	"usher/proxy/upstream/names"
	"usher/vm/discover"
)

// Options of a Fleet. All may be left zero.
type Options struct {
	StateDir string      // where the drained ones are kept; empty: nowhere
	Log      func(Event) // is told what happens, from several goroutines; must not call the Fleet
}

// Event is something that happened to a VM.
type Event struct {
	VM     string
	Text   string
	Err    error // nil unless something failed
	Output string
	Took   time.Duration // of a hook
}

// Fleet is all machines. It is safe for concurrent use.
type Fleet struct {
	options Options
	run     func(ctx context.Context, m *Machine, hook string, argv []string) (output string, err error)
	changed chan struct{} // the goroutines may have to be others; capacity 1
	group   sync.WaitGroup

	mu      sync.Mutex
	members map[string]*member // by name
	drained map[string]bool    // also of VMs that are not configured now
}

// member is a machine and the goroutines that it has.
type member struct {
	machine    *Machine
	configured bool
	unwatch    context.CancelFunc // ends its supervisor; nil: it has none
	found      *discovery         // nil: it is not looked for
}

// discovery is a Keeper that runs.
type discovery struct {
	spec *discover.Spec
	stop context.CancelFunc
	done chan struct{} // closed when it has ended
}

// New reads who is drained. It starts nothing.
func New(o Options) *Fleet {
	if o.Log == nil {
		o.Log = func(Event) {}
	}
	f := &Fleet{options: o, run: runHook, changed: make(chan struct{}, 1), members: map[string]*member{}, drained: map[string]bool{}}
	if o.StateDir != "" {
		f.readDrained(filepath.Join(o.StateDir, drainedFile))
	}
	return f
}

func (f *Fleet) tell(e Event) { f.options.Log(e) }

// Machine is the machine of a name. It is made when it is first asked for:
// pools are built before the configuration that names it is applied.
func (f *Fleet) Machine(name string) *Machine {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.member(name).machine
}

// member returns the member of a name, a new one if need be. mu is held.
func (f *Fleet) member(name string) *member {
	b := f.members[name]
	if b == nil {
		b = &member{machine: newMachine(f, name)}
		b.machine.drained.Store(f.drained[name])
		f.members[name] = b
	}
	return b
}

// Apply makes specs those of the VMs, after a configuration was published. A
// machine is kept by its name; one that is configured no more has no hooks and
// no discovery, and is forgotten once it is not in use.
func (f *Fleet) Apply(specs []Spec) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.members {
		b.configured = false
	}
	for _, s := range specs {
		b := f.member(s.Name)
		b.configured = true
		b.machine.apply(s)
	}
	for name, b := range f.members {
		if b.configured {
			continue
		}
		b.machine.apply(Spec{Name: name})
		if b.machine.unused() {
			b.end()
			delete(f.members, name)
		}
	}
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

// Run runs hooks and discovery until ctx ends, and returns nil when all of that
// has ended: hooks that run are given 5 s.
func (f *Fleet) Run(ctx context.Context) error {
	defer f.group.Wait()
	for {
		f.arrange(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-f.changed:
		}
	}
}

// arrange starts the goroutines that are missing and ends those that are too
// many.
func (f *Fleet) arrange(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.members {
		m := b.machine
		if b.unwatch == nil && m.spec.Load().hasHooks() {
			var own context.Context
			own, b.unwatch = context.WithCancel(ctx)
			f.group.Go(func() { m.supervise(own) })
		}
		b.look(ctx, f)
	}
}

// look has the machine looked for as its spec says. The Keeper before ends
// before the next begins, since both fill the same Feed.
func (b *member) look(ctx context.Context, f *Fleet) {
	m, spec, before := b.machine, b.machine.spec.Load().Discover, b.found
	if before == nil && spec == nil || before != nil && spec != nil && before.spec.Equal(spec) {
		return
	}
	if b.found = nil; before != nil {
		before.stop()
	}
	if spec == nil {
		return
	}
	m.mu.Lock()
	source := m.source
	m.mu.Unlock()
	own, stop := context.WithCancel(ctx)
	b.found = &discovery{spec, stop, make(chan struct{})}
	done := b.found.done
	f.group.Go(func() {
		defer close(done)
		defer stop()
		if before != nil {
			<-before.done
		}
		if source == nil {
			return
		}
		k := discover.Keeper{Source: source, Feed: &m.feed, Interval: spec.Interval, Hurry: m.hurried, Now: m.look, Told: m.found}
		k.Run(own)
	})
}

// end ends the goroutines of a machine without waiting for them.
func (b *member) end() {
	if b.unwatch != nil {
		b.unwatch()
	}
	if b.found != nil {
		b.found.stop()
	}
}

// apply makes a spec that of the machine.
func (m *Machine) apply(s Spec) {
	if err := m.take(s); err != nil { // subscribers may come back to the machine
		m.feed.Set(&names.Answer{Err: err, At: time.Now()})
	}
}

func (m *Machine) take(s Spec) (err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.spec.Swap(s.withDefaults()).Discover
	m.nudge()
	if before != nil && s.Discover != nil && before.Equal(s.Discover) {
		return nil
	}
	if m.source = nil; s.Discover != nil {
		m.source, err = discover.New(*s.Discover)
	}
	return err
}

// unused reports whether nobody would miss the machine.
func (m *Machine) unused() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.active.Load() == 0 && m.life.state != Starting && m.life.state != Stopping && m.life.state != Restarting
}

// hurried reports whether somebody waits for the machine.
func (m *Machine) hurried() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.life.state == Starting || m.life.state == Restarting
}

// found is told where the machine is.
func (m *Machine) found(c discover.Change) {
	m.mu.Lock()
	switch {
	case c.Err == nil:
		m.off("")
	case discover.Off(c.Err):
		m.off(c.Err.Error())
	}
	m.mu.Unlock()
	m.tell(discovered(c))
}
