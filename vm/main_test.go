package vm

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hooks runs hooks of no machine: it notes them and lets each take its time and
// end as told.
type hooks struct {
	mu    sync.Mutex
	took  map[string]time.Duration // by hook
	fails map[string]error
	calls []string
	asked []time.Time
	now   int // that run
	most  int // that ever ran at once
}

func (h *hooks) run(ctx context.Context, m *Machine, hook string, argv []string) (string, error) {
	h.mu.Lock()
	h.calls, h.asked = append(h.calls, hook), append(h.asked, time.Now())
	took, fails := h.took[hook], h.fails[hook]
	h.now++
	h.most = max(h.most, h.now)
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.now--
		h.mu.Unlock()
	}()
	if took > 0 {
		select {
		case <-time.After(took):
		case <-ctx.Done():
			return "began", ctx.Err()
		}
	}
	return "did " + argv[0], fails
}

func (h *hooks) set(hook string, took time.Duration, fails error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[hook], h.fails[hook] = took, fails
}

// rig is a fleet of one VM in a bubble.
type rig struct {
	t      *testing.T
	fleet  *Fleet
	vm     *Machine
	hooks  *hooks
	events []Event
	began  time.Time
}

var full = Spec{
	Name: "web1", Start: []string{"start-web1"}, Stop: []string{"stop-web1"}, Restart: []string{"reset-web1"},
	StartTimeout: 60 * time.Second, IdleStop: 30 * time.Minute, RestartAfter: 90 * time.Second, RestartEvery: 10 * time.Minute,
}

// with runs a test of a machine on fake time.
func with(t *testing.T, spec Spec, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, hooks: &hooks{took: map[string]time.Duration{}, fails: map[string]error{}}, began: time.Now()}
		var mu sync.Mutex
		r.fleet = New(Options{Log: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			r.events = append(r.events, e)
		}})
		r.fleet.run = r.hooks.run
		r.vm = r.fleet.Machine(spec.Name)
		r.fleet.Apply([]Spec{spec})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.fleet.Run(ctx) }()
		synctest.Wait()
		test(r)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if r.hooks.most > 1 {
			t.Errorf("%d hooks of one machine at once", r.hooks.most)
		}
	})
}

func (r *rig) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// ran compares the hooks that began since the last call.
func (r *rig) ran(want ...string) {
	r.t.Helper()
	synctest.Wait()
	r.hooks.mu.Lock()
	defer r.hooks.mu.Unlock()
	if !slices.Equal(r.hooks.calls, want) {
		r.t.Errorf("after %v: hooks %q, want %q", time.Since(r.began), r.hooks.calls, want)
	}
	r.hooks.calls = nil
}

func (r *rig) is(want string) {
	r.t.Helper()
	synctest.Wait()
	if s := r.vm.Status(); s.State != want {
		r.t.Errorf("after %v: the VM is %s (%s), want %s", time.Since(r.began), s.State, s.Why, want)
	}
}

// starts asks for a start that is worth waiting for, for a time.
func (r *rig) starts(wait time.Duration) {
	r.t.Helper()
	until, err := r.vm.Start()
	if got := time.Until(until); err != nil || got != wait {
		r.t.Errorf("after %v: worth waiting for %v, %v, want %v", time.Since(r.began), got, err, wait)
	}
}

// refuses asks for a start that is not tried before a time.
func (r *rig) refuses(next time.Duration) error {
	r.t.Helper()
	_, err := r.vm.Start()
	refusal, ok := err.(*NotStarted)
	if !ok || time.Until(refusal.Next) != next {
		r.t.Errorf("after %v: %v, want a refusal for %v", time.Since(r.began), err, next)
	}
	return err
}
