package health

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(vmVariable) != "" {
		vmProcess()
		return
	}
	goleak.VerifyTestMain(m)
}

// world is VMs without a network.
type world struct {
	mu     sync.Mutex
	down   map[string]error           // mu; by address
	dead   map[string]bool            // mu; gives no answer
	at     map[string][]time.Duration // mu; checks by address, since the beginning of the bubble
	checks int                        // mu; in all
	now    int                        // mu; checks under way
	most   int                        // mu; of them
}

func newWorld() *world {
	return &world{down: map[string]error{}, dead: map[string]bool{}, at: map[string][]time.Duration{}}
}

func (w *world) make(begun time.Time) func(context.Context, Check, string) error {
	return func(ctx context.Context, _ Check, address string) error {
		w.mu.Lock()
		w.at[address] = append(w.at[address], time.Since(begun))
		w.checks++
		err, dead := w.down[address], w.dead[address]
		w.now++
		w.most = max(w.most, w.now)
		w.mu.Unlock()
		defer w.set(func() { w.now-- })
		if dead {
			<-ctx.Done()
			return ctx.Err()
		}
		return err
	}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// times are when an address was checked.
func (w *world) times(address string) (at []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.at[address])
}

// fake runs a test in fake time with a Checker that runs.
func fake(t *testing.T, test func(t *testing.T, c *Checker, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := New(Options{Make: w.make(time.Now())})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error)
		go func() { ended <- c.Run(ctx) }()
		synctest.Wait()
		test(t, c, w)
		cancel()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

var errDown = errors.New("down")

const vm = "10.0.0.1:80"

// changes collects what a watcher is told.
type changes struct {
	mu   sync.Mutex
	list []State
}

func (c *changes) add(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, s)
}

func (c *changes) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.list)
}

func TestTheFirstCheckIsMadeAtOnceAndDecides(t *testing.T) {
	for want, err := range map[State]error{Healthy: nil, Unhealthy: errDown} {
		fake(t, func(t *testing.T, c *Checker, w *world) {
			w.mu.Lock() // the check waits for it
			w.down[vm] = err
			var told changes
			target := c.Watch(Check{}, vm, told.add)
			defer target.Close()
			if target.State() != Unknown || target.Status().State != Unknown {
				t.Error("before:", target.State())
			}
			w.mu.Unlock()
			synctest.Wait()
			if target.State() != want || told.String() != "["+want.String()+"]" {
				t.Errorf("state %v, told %v", target.State(), &told)
			}
			s := target.Status()
			if s.State != want || s.Passed+s.Failed != 1 || s.InARow != 1 || (s.Reason == "down") != (err != nil) || s.Checked != "tcp 10.0.0.1:80 every 2s" {
				t.Errorf("status %+v", s)
			}
		})
	}
}

func TestRiseAndFall(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var told changes
		target := c.Watch(Check{Interval: 8 * time.Second, Rise: 2, Fall: 3}, vm, told.add)
		defer target.Close()
		after(20 * time.Second)

		w.set(func() { w.down[vm] = errDown })
		before := target.Status().Failed
		for target.Status().Failed == before {
			after(10 * time.Millisecond)
		}
		if s := target.Status(); s.State != Healthy || s.InARow != 1 || s.Reason != "down" {
			t.Errorf("after one failure: %+v", s)
		}
		after(2250 * time.Millisecond) // two more, an eighth of the interval apart
		if s := target.Status(); s.State != Unhealthy || s.InARow != 3 || time.Since(s.Since) > time.Second {
			t.Errorf("after three failures: %+v", s)
		}
		checks := len(w.times(vm))
		after(7 * time.Second)
		if n := len(w.times(vm)) - checks; n > 1 {
			t.Errorf("%d checks in an interval although the state is settled", n)
		}

		w.set(func() { delete(w.down, vm) })
		for target.Status().InARow != 1 || target.Status().Passed == 0 {
			after(10 * time.Millisecond)
		}
		if s := target.Status(); s.State != Unhealthy {
			t.Errorf("after one success: %+v", s)
		}
		after(1150 * time.Millisecond)
		if s := target.Status(); s.State != Healthy || s.Reason != "" {
			t.Errorf("after two successes: %+v", s)
		}
		if told.String() != "[healthy unhealthy healthy]" {
			t.Errorf("told %v", &told)
		}
	})
}

func TestResultsThatAlternateChangeNothing(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		n := 0
		c.options.Make = func(context.Context, Check, string) error {
			if n++; n%3 != 1 {
				return errDown
			}
			return nil
		}
		var told changes
		target := c.Watch(Check{}, vm, told.add)
		defer target.Close()
		after(time.Minute)
		if told.String() != "[healthy]" || target.Status().Failed < 20 {
			t.Errorf("told %v, %+v", &told, target.Status())
		}
	})
}

func TestAKilledVMIsOutWithinThreeSeconds(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var targets []*Target
		for i := range 500 {
			targets = append(targets, c.Watch(Check{}, fmt.Sprint("10.0.1.", i, ":80"), nil))
		}
		after(10 * time.Second)
		w.set(func() {
			for i := range targets {
				w.down[fmt.Sprint("10.0.1.", i, ":80")] = errDown
			}
		})
		after(2800 * time.Millisecond)
		for _, target := range targets {
			if target.State() != Unhealthy {
				t.Errorf("%+v", target.Status())
			}
			target.Close()
		}
	})
}

func TestIntervalsAreJitteredAndStartsSpread(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var targets []*Target
		for i := range 1000 {
			targets = append(targets, c.Watch(Check{}, fmt.Sprint("10.0.1.", i, ":80"), nil))
		}
		after(20 * time.Second)
		distinct := map[time.Duration]bool{}
		var perTenth [200]int
		for i := range targets {
			at := w.times(fmt.Sprint("10.0.1.", i, ":80"))
			if at[0] > 500*time.Millisecond {
				t.Errorf("first check after %v", at[0])
			}
			for n := 1; n < len(at); n++ {
				d := at[n] - at[n-1]
				if n > 1 && d < 1800*time.Millisecond-together || d > 2200*time.Millisecond {
					t.Errorf("%v between checks", d)
				}
				distinct[d] = true
				if tenth := int(at[n] / (100 * time.Millisecond)); tenth < len(perTenth) {
					perTenth[tenth]++
				}
			}
			targets[i].Close()
		}
		if len(distinct) < 5000 {
			t.Errorf("only %d different intervals", len(distinct))
		}
		if most := slices.Max(perTenth[40:]); most > 100 { // 50 on average
			t.Errorf("%d checks in a tenth of a second: %v", most, perTenth)
		}
	})
}

func TestTargetsOfALateRunAreSpreadToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		c := New(Options{Make: w.make(time.Now())})
		for i := range 1000 {
			defer c.Watch(Check{}, fmt.Sprint("10.0.1.", i, ":80"), nil).Close()
		}
		time.Sleep(time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		c.Run(ctx)
		if n := w.checks; n < 150 || n > 250 {
			t.Errorf("%d checks in the first 100 ms", n)
		}
	})
}

func TestEqualChecksAreMadeOnce(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var a, b changes
		first := c.Watch(Check{Kind: HTTP, Host: "x"}, vm, a.add)
		second := c.Watch(Check{Kind: HTTP, Host: "x", Path: "/", Method: "GET", Status: "200-399", Interval: 2 * time.Second, Rise: 2}, vm, b.add)
		third := c.Watch(Check{Kind: HTTP, Host: "x", Port: 80}, "10.0.0.1:8080", nil)
		after(time.Minute)
		if n := len(w.times(vm)); n < 25 || n > 35 || w.checks != n {
			t.Errorf("%d checks, %d in all", n, w.checks)
		}
		other := c.Watch(Check{Kind: HTTP, Host: "y"}, vm, nil)
		synctest.Wait()
		if other.State() != Healthy || len(c.subjects) != 2 {
			t.Error("a check of another host is not one of its own")
		}
		other.Close()

		first.Close()
		first.Close()
		w.set(func() { w.down[vm] = errDown })
		after(10 * time.Second)
		if a.String() != "[healthy]" || b.String() != "[healthy unhealthy]" || second.State() != Unhealthy || third.State() != Unhealthy {
			t.Error(&a, &b, second.State(), third.State())
		}
		second.Close()
		third.Close()
	})
}

func TestStateIsKeptWhileSomebodyWatches(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		w.down[vm] = errDown
		old := c.Watch(Check{}, vm, nil)
		after(20 * time.Second)
		var told changes
		next := c.Watch(Check{}, vm, told.add)
		old.Close()
		if s := next.Status(); s.State != Unhealthy || s.Failed < 8 {
			t.Errorf("%+v", s)
		}
		after(5 * time.Second)
		if told.String() != "[]" {
			t.Errorf("told %v of what it could see", &told)
		}
		next.Close()
		fresh := c.Watch(Check{}, vm, nil)
		defer fresh.Close()
		if s := fresh.Status(); s.State != Unknown || s.Failed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNothingIsCheckedAfterTheLastClose(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var told changes
		w.dead[vm] = true
		target := c.Watch(Check{}, vm, told.add)
		after(time.Second)
		target.Close() // with a check under way
		after(time.Hour)
		if w.checks != 1 || told.String() != "[]" || len(c.subjects)+len(c.queue)+c.running != 0 {
			t.Errorf("%d checks, told %v, %d subjects, %d queued, %d running", w.checks, &told, len(c.subjects), len(c.queue), c.running)
		}
	})
}

func TestAWatcherMayCloseItselfAndOthers(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var told changes
		var a, b *Target
		w.set(func() { // no check is over before both watch
			a = c.Watch(Check{}, vm, func(s State) {
				if s == Unhealthy {
					a.Close()
					b.Close()
				}
			})
			b = c.Watch(Check{}, vm, told.add)
		})
		after(time.Minute)
		w.set(func() { w.down[vm] = errDown })
		after(time.Minute)
		if told.String() != "[healthy]" || len(c.subjects) != 0 {
			t.Errorf("told %v after Close, %d subjects", &told, len(c.subjects))
		}
	})
}

func TestAPanicIsAFailure(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		c.options.Make = func(_ context.Context, _ Check, address string) error {
			if address == vm {
				panic("oops\x1b")
			}
			return nil
		}
		bad, good := c.Watch(Check{}, vm, nil), c.Watch(Check{}, "10.0.0.2:80", nil)
		defer bad.Close()
		defer good.Close()
		after(time.Minute)
		if s := bad.Status(); s.State != Unhealthy || s.Reason != "the check itself failed: oops?" || s.Failed < 20 {
			t.Errorf("%+v", s)
		}
		if s := good.Status(); s.State != Healthy || s.Passed < 20 {
			t.Errorf("%+v", s)
		}
	})
}

// TestDeadVMsDelayNobody has more dead VMs than checks may be under way.
func TestDeadVMsDelayNobody(t *testing.T) {
	for _, dead := range []int{1000, 3000} {
		fake(t, func(t *testing.T, c *Checker, w *world) {
			var targets []*Target
			for i := range dead {
				address := fmt.Sprint("10.1.", i, ":80")
				w.set(func() { w.dead[address] = true })
				targets = append(targets, c.Watch(Check{}, address, nil))
			}
			after(30 * time.Second)
			target := c.Watch(Check{}, vm, nil)
			targets = append(targets, target)
			for range 10 {
				after(2 * time.Second)
				if last := time.Since(target.Status().Last); last > 2200*time.Millisecond {
					t.Errorf("%d dead: the last check was %v ago", dead, last)
				}
			}
			if w.most > atOnce || w.most < 600 {
				t.Errorf("%d checks at once", w.most)
			}
			perDead := float64(w.checks) / float64(dead)
			t.Logf("%d dead VMs: each checked every %.1f s, %d checks at once", dead, 50/perDead, w.most)
			if dead == 1000 && perDead < 50/3.5 {
				t.Errorf("each of the dead was checked %.1f times in 50 s", perDead)
			}
			for _, target := range targets {
				target.Close()
			}
			after(5 * time.Second)
			if c.running != 0 || c.waits(time.Now()) || c.lanes[silent].running+c.lanes[fresh].running+c.lanes[prompt].running != 0 {
				t.Errorf("%d running, lanes %+v", c.running, c.lanes)
			}
		})
	}
}

func TestRunEndsWithChecksUnderWayAndCountsThemNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.dead[vm] = true
		c := New(Options{Make: w.make(time.Now())})
		target := c.Watch(Check{}, vm, nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := c.Run(ctx); err != nil || w.now != 0 || w.checks != 1 {
			t.Error(err, w.now, w.checks)
		}
		if s := target.Status(); s.State != Unknown || s.Failed != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestWatchAndCloseFromEverywhere(t *testing.T) {
	fake(t, func(t *testing.T, c *Checker, w *world) {
		var told atomic.Int32
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				for n := range 50 {
					target := c.Watch(Check{Interval: 100 * time.Millisecond}, fmt.Sprint("10.0.0.", (i+n)%7, ":80"), func(State) { told.Add(1) })
					time.Sleep(time.Duration(i+n) * time.Millisecond)
					target.State()
					target.Status()
					target.Close()
				}
			})
		}
		all.Wait()
		after(time.Second)
		if told.Load() == 0 || len(c.subjects)+len(c.queue)+c.running != 0 {
			t.Errorf("told %d times, %d subjects stay", told.Load(), len(c.subjects))
		}
	})
}

func TestNormalForm(t *testing.T) {
	same := []Check{
		{Kind: HTTP, Secure: true, ServerName: "x"},
		{Kind: HTTP, Secure: true, ServerName: "x", Host: vm, Service: "s", Path: "/", Fall: 3},
		{Kind: HTTP, Secure: true, ServerName: "x", Port: 80},
	}
	for _, c := range same {
		if normal(c, vm) != normal(same[0], vm) {
			t.Errorf("%+v differs", c)
		}
	}
	base := Check{Kind: HTTP, Secure: true, ServerName: "x", Proxy: "v2"}
	different := []func(*Check){
		func(c *Check) { c.Kind = GRPC }, func(c *Check) { c.Interval = 1 }, func(c *Check) { c.Timeout = 1 }, func(c *Check) { c.Rise = 1 },
		func(c *Check) { c.Fall = 1 }, func(c *Check) { c.Method = "HEAD" }, func(c *Check) { c.Path = "/x" }, func(c *Check) { c.Host = "h" },
		func(c *Check) { c.Status = "200" }, func(c *Check) { c.Body = "b" }, func(c *Check) { c.Secure = false }, func(c *Check) { c.ServerName = "y" },
		func(c *Check) { c.RootsPEM = "p" }, func(c *Check) { c.Insecure = true }, func(c *Check) { c.HTTP2 = true }, func(c *Check) { c.Proxy = "v1" },
		func(c *Check) { c.Port = 81 },
	}
	seen := map[key]int{normal(base, vm): -1}
	for i, change := range different {
		c := base
		change(&c)
		k := normal(c, vm)
		if other, ok := seen[k]; ok {
			t.Errorf("change %d is like %d", i, other)
		}
		seen[k] = i
	}
	if k := normal(Check{Port: 9}, "[fd00::1]:80"); k.address != "[fd00::1]:9" {
		t.Error(k.address)
	}
	if k := normal(Check{Port: 9, Proxy: "v1"}, "unix:/run/x:1"); k.address != "unix:/run/x:1" || k.check.Proxy != "v1" {
		t.Error(k)
	}
	if k := normal(Check{Host: "x", ServerName: "y", Proxy: "v1", Secure: true}, vm); k != normal(Check{}, vm) {
		t.Errorf("a TCP check cares for %+v", k.check)
	}
}

func TestReasonsAreShortAndPlain(t *testing.T) {
	long := clean(strings.Repeat("ä", 300))
	if len(long) > maxReason+len("…") || !strings.HasSuffix(long, "ä…") {
		t.Errorf("%q", long)
	}
	if s := clean("a\x1b[31m\xff\u202eb\n"); s != "a?[31m??b?" {
		t.Errorf("%q", s)
	}
	if d := (&subject{key: normal(Check{Interval: math.MaxInt64 / 4}, vm)}).next(time.Now(), time.Now(), false); d.IsZero() {
		t.Error(d)
	}
}

func BenchmarkState(b *testing.B) {
	t := New(Options{}).Watch(Check{}, vm, nil)
	defer t.Close()
	b.ReportAllocs()
	for b.Loop() {
		if t.State() != Unknown {
			b.Fatal("checked without Run")
		}
	}
}
