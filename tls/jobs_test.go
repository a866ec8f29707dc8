package tls

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

// script stands for the work of jobs: it records what is begun and when.
type script struct {
	*jobs
	begun time.Time
	pace  pace
	work  func(ctx context.Context, s *site) error // nil: succeeds for good

	mu  sync.Mutex
	log []string
}

func runScript(t *testing.T, work func(context.Context, *site) error) *script {
	t.Helper()
	sc := &script{begun: time.Now(), work: work, pace: usualPace()}
	sc.jobs = newJobs(sc.do)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { sc.run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return sc
}

func (sc *script) do(ctx context.Context, s *site, act action) plan {
	if act == readStorage {
		return plan{action: placeOrder}
	}
	sc.mu.Lock()
	sc.log = append(sc.log, fmt.Sprintf("%s %s", time.Since(sc.begun).Round(time.Second), s.want.Host))
	sc.mu.Unlock()
	if sc.work == nil || sc.work(ctx, s) == nil {
		return plan{action: placeOrder, at: time.Now().Add(60 * day)}
	}
	s.trouble.failures++
	return plan{action: placeOrder, at: time.Now().Add(sc.pace.backOff(s.trouble.failures)), failures: s.trouble.failures}
}

func (sc *script) events() []string {
	synctest.Wait()
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return slices.Clone(sc.log)
}

func sitesNamed(names ...string) (all []*site) {
	for _, name := range names {
		all = append(all, newSite(acmeWant(name), nil))
	}
	return all
}

func numbered(prefix string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(prefix, i))
	}
	return names
}

func TestJobsKeepTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := runScript(t, nil)
		sc.apply(1, sitesNamed(numbered("n", 25)...), nil)
		time.Sleep(time.Minute)
		per := map[string]int{}
		for _, e := range sc.events() {
			per[strings.Fields(e)[0]]++
		}
		if len(per) != 3 || per["0s"] != 10 || per["10s"] != 10 || per["20s"] != 5 {
			t.Errorf("%v", per)
		}
	})
}

// However many names fail or hang, one that comes later, that is asked for, or
// that has not failed yet goes first.
func TestJobsPutTheUrgentFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := runScript(t, func(ctx context.Context, s *site) error {
			if strings.HasPrefix(s.want.Host, "slow") {
				ctx, cancel := context.WithTimeout(ctx, usualPace().attempt)
				defer cancel()
				<-ctx.Done()
			}
			return context.Canceled
		})
		failing := sitesNamed(append(numbered("bad", 1000), numbered("slow", 1000)...)...)
		sc.apply(1, failing, nil)
		time.Sleep(15 * time.Second)
		sc.apply(2, sitesNamed("new"), nil)
		sc.ask(failing[1500])
		time.Sleep(5 * time.Second)
		log := sc.events()
		if !slices.Contains(log[20:], "20s slow500") || !slices.Contains(log[20:], "20s new") || len(log) != 30 {
			t.Errorf("%q", log)
		}
		time.Sleep(time.Hour) // most of the failing ones are due again by now
		sc.apply(3, sitesNamed("newer"), nil)
		time.Sleep(10 * time.Second)
		if log := strings.Join(sc.events(), " "); !strings.Contains(log, "newer") {
			t.Error("a new name waits")
		}
	})
}

func TestJobsBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := runScript(t, func(context.Context, *site) error { return context.Canceled })
		all := sitesNamed("a")
		sc.apply(1, all, nil)
		synctest.Wait()
		last := time.Duration(0)
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 360, 360} {
			next, underWay := sc.next(all[0])
			wait := time.Until(next.at)
			if want *= time.Minute; wait < want*8/10 || wait > want*12/10 || underWay {
				t.Errorf("after %d failures: %s, want about %s", i+1, wait, want)
			}
			sc.ask(all[0]) // does not shorten it
			time.Sleep(wait)
			synctest.Wait()
			last += wait
		}
		if n := len(sc.events()); n != 12 {
			t.Errorf("%d tries in %s", n, last)
		}
	})
}

func TestJobsEndAndBeginAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sc := runScript(t, func(ctx context.Context, _ *site) error { <-ctx.Done(); return ctx.Err() })
		all := sitesNamed("a", "b", "c")
		sc.apply(1, all, nil)
		synctest.Wait()
		sc.apply(2, all[1:2], all[:1]) // b anew, a is gone, c is left alone
		time.Sleep(time.Second)
		if log := sc.events(); !slices.Equal(log, []string{"0s a", "0s b", "0s c", "0s b"}) && len(log) != 4 {
			t.Errorf("%q", log)
		}
		if sc.lanes[placeOrder].running != 2 || all[0].job.in != nil {
			t.Error("a is under way")
		}
	})
}

func TestApplyIsCheap(t *testing.T) {
	const names = 100_000
	c, err := New(Options{StateDir: t.TempDir(), Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	wants := make([]Want, names)
	for i := range wants {
		wants[i] = acmeWant(fmt.Sprintf("site%d.test", i))
	}
	begun := time.Now()
	if err := c.Apply(Options{}, wants); err != nil {
		t.Fatal(err)
	}
	first := time.Since(begun)
	kept := c.find("site5.test")
	begun = time.Now()
	if err := c.Apply(Options{}, append(wants[1:names:names], acmeWant("new.test"))); err != nil {
		t.Fatal(err)
	}
	again := time.Since(begun)
	t.Logf("first %s, again %s", first, again)
	if c.find("site5.test") != kept || c.find("site0.test") != nil || c.find("new.test") == nil {
		t.Error("not the sites that were wanted")
	}
	if n := c.jobs.lanes[readStorage].Len(); n != names {
		t.Errorf("%d jobs", n)
	}
	if first > 30*time.Second || again > 30*time.Second { // a square of 100,000 takes longer on any machine
		t.Errorf("first %s, again %s", first, again)
	}
}

func TestLocks(t *testing.T) {
	dir := t.TempDir()
	one, two := &locks{dir: dir}, &locks{dir: dir}
	if err := one.lock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*locks{one, two} {
		if ok, err := l.tryLock("a"); ok || err != nil {
			t.Error("locked twice", err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := two.lock(ctx, "a"); err != context.DeadlineExceeded {
		t.Error(err)
	}
	locked := make(chan error)
	go func() { locked <- two.lock(t.Context(), "a") }()
	if err := one.unlock("a"); err != nil {
		t.Error(err)
	}
	if err := <-locked; err != nil {
		t.Error(err)
	}
	if err := two.unlock("a"); err != nil {
		t.Error(err)
	}
	if two.unlock("a") == nil {
		t.Error("unlocked twice")
	}
}

// Many holders, one at a time, and no file is left.
func TestLocksExclude(t *testing.T) {
	dir := t.TempDir()
	var inside sync.Mutex
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			l := &locks{dir: dir}
			if err := l.lock(t.Context(), "a"); err != nil {
				t.Error(err)
				return
			}
			if !inside.TryLock() {
				t.Error("two hold it")
			} else {
				inside.Unlock()
			}
			if err := l.unlock("a"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
