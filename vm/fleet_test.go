package vm

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/vm/discover"
)

func specs(names ...string) []Spec {
	var all []Spec
	for _, name := range names {
		all = append(all, Spec{Name: name})
	}
	return all
}

func TestMachineIsKeptByName(t *testing.T) {
	f := New(Options{})
	early := f.Machine("web1")
	f.Apply(specs("web1", "web2"))
	if f.Machine("web1") != early {
		t.Error("the machine of a pool that was built before is another one")
	}
	busy, idle := f.Machine("web1"), f.Machine("web2")
	busy.Begin()
	f.Apply(specs("web3"))
	if f.Machine("web1") != busy {
		t.Error("a machine in use was forgotten")
	}
	f.Apply(specs("web1", "web2"))
	if f.Machine("web1") != busy || f.Machine("web2") == idle {
		t.Error("kept the wrong one")
	}
	busy.End()
	var names []string
	for _, s := range f.Status() {
		names = append(names, s.Name)
	}
	if !slices.Equal(names, []string{"web1", "web2"}) {
		t.Errorf("status of %q", names)
	}
}

func TestDrainIsKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	f := New(Options{StateDir: dir})
	f.Apply(specs("web1", "web2", "git"))
	for _, name := range []string{"web2", "web1", "web2"} {
		if err := f.Drain(name); err != nil {
			t.Fatal(err)
		}
	}
	f.Apply(specs("web1", "git")) // web2 is away for a while
	if got := f.Drained(); !slices.Equal(got, []string{"web1", "web2"}) {
		t.Errorf("drained %q", got)
	}
	if !f.Machine("web1").Drained() || f.Machine("git").Drained() {
		t.Error("not so after a reload")
	}

	f = New(Options{StateDir: dir})
	if !f.Machine("web2").Drained() || f.Machine("git").Drained() {
		t.Error("not so after a restart")
	}
	f.Apply(specs("web1", "web2", "git"))
	if err := f.Undrain("web2"); err != nil || f.Machine("web2").Drained() {
		t.Error(err)
	}
	if err := f.Undrain("git"); err != nil {
		t.Error(err)
	}
	f.Apply(specs("git"))
	if err := f.Undrain("web1"); err != nil {
		t.Errorf("a VM that left cannot be undrained: %v", err)
	}
	if got := New(Options{StateDir: dir}).Drained(); len(got) != 0 {
		t.Errorf("drained %q", got)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 || left[0].Name() != drainedFile {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestDrainThatCannotBeKeptChangesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := New(Options{StateDir: dir})
	f.Apply(specs("web1"))
	if err := f.Drain("web1"); err == nil || f.Machine("web1").Drained() || len(f.Drained()) != 0 {
		t.Errorf("drained, %v", err)
	}
}

func TestDrainedFileThatIsBroken(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, drainedFile), []byte(`["web1"`), 0o600); err != nil {
		t.Fatal(err)
	}
	var told []Event
	New(Options{StateDir: dir, Log: func(e Event) { told = append(told, e) }})
	if len(told) != 1 || told[0].Err == nil || !strings.Contains(told[0].Err.Error(), drainedFile) {
		t.Errorf("told %+v", told)
	}
}

func TestDrainNamesNearOnes(t *testing.T) {
	f := New(Options{})
	if err := f.Drain("web1"); err == nil || !strings.Contains(err.Error(), "names none") {
		t.Error(err)
	}
	f.Machine("ghost") // of a pool that never went live
	f.Apply(specs("web1", "web2", "git", "mail.example.com"))
	for name, want := range map[string]string{
		"wbe1":  `there is no VM "wbe1" (did you mean "web1"?)`,
		"web":   `(did you mean "web1", "web2"?)`,
		"mail":  `(did you mean "mail.example.com"?)`,
		"GIT":   `(did you mean "git"?)`,
		"zzzzz": `there are "git", "mail.example.com", "web1", "web2"`,
		"ghost": `there is no VM "ghost"`,
		"":      `there is no VM ""`,
	} {
		if err := f.Drain(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("drain %q: %v, want %s", name, err, want)
		}
		if err := f.Undrain(name); err == nil {
			t.Errorf("undrain %q works", name)
		}
	}
}

// TestVMsComeAndGo: goroutines begin and end with the configuration.
func TestVMsComeAndGo(t *testing.T) {
	with(t, full, func(r *rig) {
		r.fleet.Apply([]Spec{full, {Name: "web2", Start: []string{"start-web2"}}})
		synctest.Wait()
		r.hooks.set("start", 10*time.Second, nil)
		web2 := r.fleet.Machine("web2")
		if _, err := web2.Start(); err != nil {
			t.Fatal(err)
		}
		r.ran("start")
		r.fleet.Apply([]Spec{full}) // while it starts
		r.wait(10 * time.Second)
		if r.fleet.Machine("web2") != web2 {
			t.Error("forgotten while its hook ran")
		}
		web2.Reached()
		r.fleet.Apply([]Spec{full})
		if r.fleet.Machine("web2") == web2 {
			t.Error("not forgotten")
		}
		r.wait(time.Hour)
		r.ran("stop")
	})
}

// TestReloadTakesAHookAway between the wish for a start and the start.
func TestReloadTakesAHookAway(t *testing.T) {
	told := make(chan Event, 16)
	f := New(Options{Log: func(e Event) { told <- e }})
	f.Apply([]Spec{full})
	m := f.Machine("web1")
	if _, err := m.Start(); err != nil {
		t.Fatal(err)
	}
	spec := full
	spec.Start = nil
	f.Apply([]Spec{spec})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	next(t, told, "start hook")
	cancel()
	<-done
	if s := m.Status(); s.Hook.Err == "" || s.State != "unknown" {
		t.Errorf("%+v", s)
	}
}

func TestNothingIsAllocatedOnTheWay(t *testing.T) {
	f := New(Options{})
	f.Apply([]Spec{full})
	m := f.Machine("web1")
	m.Reached()
	if n := testing.AllocsPerRun(1000, func() {
		m.Begin()
		m.Drained()
		m.CanStart()
		m.Reached()
		m.End()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkExchange(b *testing.B) {
	f := New(Options{})
	f.Apply([]Spec{full})
	m := f.Machine("web1")
	m.Reached()
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if m.Drained() {
				b.Error("drained")
			}
			m.Begin()
			m.Reached()
			m.End()
		}
	})
}

// real is a fleet with real programs.
func real(t *testing.T, all ...Spec) (f *Fleet, told chan Event) {
	t.Helper()
	told = make(chan Event, 64)
	f = New(Options{StateDir: t.TempDir(), Log: func(e Event) { told <- e }})
	f.Apply(all)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { f.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return f, told
}

func next(t *testing.T, told chan Event, text string) Event {
	t.Helper()
	for {
		select {
		case e := <-told:
			if strings.Contains(e.Text, text) {
				return e
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("not told of %q", text)
		}
	}
}

// TestRealPrograms is a VM that is a directory: it exists while the VM runs.
func TestRealPrograms(t *testing.T) {
	dir := t.TempDir()
	sh := func(script string) []string {
		return []string{"sh", "-c", "cd " + dir + " && " + script}
	}
	f, told := real(t, Spec{
		Name: "web1", Start: sh(`mkdir "$USHER_VM" && echo started`), Stop: sh(`rmdir "$USHER_VM"`), IdleStop: 50 * time.Millisecond,
		Discover: &discover.Spec{Source: "exec", Name: "web1", Interval: 50 * time.Millisecond,
			Command: sh(`[ -d "$USHER_VM" ] || { echo it is off >&2; exit 1; }; echo 10.0.0.7`)},
	})
	m := f.Machine("web1")
	changed := make(chan struct{}, 16)
	defer m.Feed().Subscribe(func() { changed <- struct{}{} })()
	m.Begin()
	if e := next(t, told, "was not found"); !strings.Contains(e.Err.Error(), "it is off") {
		t.Error(e.Err)
	}
	if _, err := m.Start(); err != nil {
		t.Fatal(err)
	}
	for waits := map[string]bool{"start hook": true, "is at 10.0.0.7": true}; len(waits) > 0; {
		e := next(t, told, "") // in any order
		delete(waits, e.Text)
		if e.Text == "start hook" && (e.Err != nil || e.Output != "started" || e.VM != "web1") {
			t.Errorf("%+v", e)
		}
	}
	if a := m.Feed().Answer(); len(a.Endpoints) != 1 || a.Endpoints[0].Addr.String() != "10.0.0.7" {
		t.Errorf("%+v", a)
	}
	<-changed
	m.Reached()
	if s := m.Status(); s.State != "running" || s.Hook.Exit != 0 || len(s.Addresses) != 1 || s.Active != 1 {
		t.Errorf("%+v", s)
	}
	m.End()
	for waits := map[string]bool{"stop hook": true, "was not found again; taken to be still at 10.0.0.7": true}; len(waits) > 0; {
		delete(waits, next(t, told, "").Text) // in any order
	}
	if _, err := os.Stat(filepath.Join(dir, "web1")); !os.IsNotExist(err) {
		t.Error(err)
	}
	s := m.Status()
	for tick := time.NewTicker(time.Millisecond); s.State == "stopping"; s = m.Status() { // the hook is told of a moment earlier
		<-tick.C
	}
	if s.State != "asleep" || s.LookErr == "" || len(s.Addresses) != 1 {
		t.Errorf("%+v", s)
	}

	spec := Spec{Name: "web1", Start: sh("exit 7"), Discover: &discover.Spec{Source: "exec", Command: []string{"echo", "10.0.0.8"}}}
	f.Apply([]Spec{spec}) // discovery asks somebody else
	next(t, told, "is at 10.0.0.8")
	m.mu.Lock()
	m.life.stopped = time.Time{}
	m.mu.Unlock()
	if _, err := m.Start(); err != nil {
		t.Fatal(err)
	}
	if e := next(t, told, "start hook"); e.Err == nil || m.Status().Hook.Exit != 7 {
		t.Errorf("%+v, %+v", e, m.Status().Hook)
	}
}

// TestBuiltinHooks uses libvirt's test driver, whose domain lives as long as a
// connection does: each connection finds it running.
func TestBuiltinHooks(t *testing.T) {
	web := Spec{Name: "test", Start: []string{"builtin"}, Discover: &discover.Spec{Source: "libvirt", Name: "test", URI: "test:///default"}}
	bare := Spec{Name: "bare", Start: []string{"builtin"}, Discover: &discover.Spec{Source: "exec", Command: []string{"echo", "10.0.0.1"}}}
	f, told := real(t, web, bare)
	next(t, told, "is at 192.168.122.3")
	if _, err := f.Machine("test").Start(); err != nil {
		t.Fatal(err)
	}
	if e := next(t, told, "start hook"); e.Err != nil || e.Output != `domain "test" is running already` {
		t.Errorf("%+v", e)
	}
	if _, err := f.Machine("bare").Start(); err != nil {
		t.Fatal(err)
	}
	if e := next(t, told, "start hook"); e.Err == nil || !strings.Contains(e.Err.Error(), `no discovery of VM "bare" has a built-in start`) {
		t.Errorf("%+v", e)
	}
}

func TestDiscoveryThatCannotBe(t *testing.T) {
	f, _ := real(t)
	m := f.Machine("web1")
	defer m.Feed().Subscribe(func() { m.Unhealthy("10.0.0.1:80", time.Time{}) })() // as a pool does
	f.Apply([]Spec{{Name: "web1", Discover: &discover.Spec{Source: "xen"}}})
	if s := f.Machine("web1").Status(); s.LookErr == "" || !s.Discovered {
		t.Errorf("%+v", s)
	}
}
