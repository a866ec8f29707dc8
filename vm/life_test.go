package vm

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestStartOnceForAll(t *testing.T) {
	with(t, full, func(r *rig) {
		r.hooks.set("start", 2*time.Second, nil)
		r.is("unknown")
		var visitors sync.WaitGroup
		for range 100 {
			visitors.Go(func() {
				if until, err := r.vm.Start(); err != nil || time.Until(until) != time.Minute {
					t.Errorf("%v, %v", time.Until(until), err)
				}
			})
		}
		visitors.Wait()
		r.ran("start")
		r.is("starting")
		r.wait(10 * time.Second)
		r.starts(50 * time.Second)
		r.vm.Reached()
		r.is("running")
		r.ran()
		if e := r.events; len(e) != 2 || e[0].Text != "start hook" || e[0].Output != "did start-web1" || e[0].Took != 2*time.Second || e[1].Text != "answers 10s after its start began" {
			t.Errorf("told %+v", e)
		}
		r.starts(time.Minute) // it went away again
		r.ran("start")
	})
}

// TestHalfUp: a VM of which one address is healthy is not started once more
// for another one that takes longer.
func TestHalfUp(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		r.vm.Unhealthy("10.0.0.1:443", time.Now())
		r.starts(time.Minute)
		r.ran("start")
		r.wait(10 * time.Second)
		r.vm.Unhealthy("10.0.0.1:80", time.Time{})
		r.vm.Healthy("10.0.0.1:80", true)
		r.vm.Reached()
		r.is("running")
		r.starts(50 * time.Second)
		r.ran()
		r.vm.Healthy("10.0.0.1:80", false) // it went away again
		r.starts(time.Minute)
		r.ran("start")
	})
}

func TestStartTimeout(t *testing.T) {
	with(t, full, func(r *rig) {
		r.starts(time.Minute)
		r.wait(time.Minute)
		r.ran("start")
		r.is("running")
		if err := r.refuses(5 * time.Second); !strings.Contains(err.Error(), `VM "web1" is not started before`) || !strings.Contains(err.Error(), "it did not answer within 1m0s after its start") {
			t.Error(err)
		}
		r.wait(5 * time.Second)
		r.starts(time.Minute)
		r.ran("start")
	})
}

func TestStartHookThatHangsIsEnded(t *testing.T) {
	with(t, full, func(r *rig) {
		r.hooks.set("start", time.Hour, nil)
		r.starts(time.Minute)
		r.wait(time.Minute)
		r.is("unknown")
		r.refuses(5 * time.Second)
		h := r.vm.Status().Hook
		if h == nil || h.Hook != "start" || h.Took != time.Minute || h.Exit != -1 || h.Err == "" || h.Output != "began" {
			t.Errorf("%+v", h)
		}
	})
}

// TestStartHookThatWaits: it ends only when the VM has long been reached.
func TestStartHookThatWaits(t *testing.T) {
	with(t, full, func(r *rig) {
		r.hooks.set("start", 20*time.Second, nil)
		r.starts(time.Minute)
		r.wait(5 * time.Second)
		r.vm.Reached()
		r.is("starting")
		r.wait(15 * time.Second)
		r.is("running")

		r.hooks.set("start", time.Hour, nil) // never
		r.starts(time.Minute)
		r.wait(5 * time.Second)
		r.vm.Reached()
		r.wait(time.Minute)
		r.is("running")
		r.starts(time.Minute)
	})
}

func TestFailedStartBacksOff(t *testing.T) {
	with(t, full, func(r *rig) {
		broken := errors.New("no such domain")
		r.hooks.set("start", 0, broken)
		for _, backoff := range []time.Duration{5, 10, 20, 40, 60, 60} {
			r.starts(time.Minute)
			r.ran("start")
			r.is("unknown")
			if err := r.refuses(backoff * time.Second); !errors.Is(err, broken) {
				t.Error(err)
			}
			if next := time.Until(r.vm.Status().NextStart); next != backoff*time.Second {
				t.Errorf("next start in %v", next)
			}
			r.wait(backoff * time.Second)
			r.ran()
		}
		r.starts(time.Minute)
		r.ran("start")
		r.vm.Reached()
		r.starts(time.Minute)
		r.ran("start")
		r.refuses(5 * time.Second)
	})
}

func TestMachineWithoutStartHook(t *testing.T) {
	with(t, Spec{Name: "web1"}, func(r *rig) {
		if r.vm.CanStart() {
			t.Error("it can start")
		}
		if _, err := r.vm.Start(); !errors.Is(err, errNoHook) {
			t.Error(err)
		}
		r.fleet.Apply([]Spec{full})
		synctest.Wait()
		if !r.vm.CanStart() {
			t.Error("it cannot start after a reload")
		}
		r.starts(time.Minute)
		r.ran("start")
	})
}

func TestIdleStop(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.wait(29 * time.Minute)
		r.vm.Begin()
		r.wait(3 * time.Hour) // a tunnel
		r.ran()
		r.vm.Begin()
		r.vm.End()
		r.wait(time.Hour)
		r.vm.End()
		s := r.vm.Status()
		if time.Until(s.StopsAt) != 30*time.Minute || time.Since(s.LastUse) != 0 {
			t.Errorf("stops in %v, last used %v ago", time.Until(s.StopsAt), time.Since(s.LastUse))
		}
		r.wait(30*time.Minute - time.Second)
		r.ran()
		r.is("running")
		r.wait(time.Second)
		r.ran("stop")
		r.is("asleep")
		r.wait(24 * time.Hour)
		r.ran()

		r.starts(time.Minute)
		r.ran("start")
		r.vm.Reached()
		r.wait(30*time.Minute - time.Second)
		r.ran()
		r.wait(time.Second)
		r.ran("stop")
	})
}

func TestIdleClockBeginsWithUsher(t *testing.T) {
	with(t, full, func(r *rig) {
		r.wait(30*time.Minute - time.Second)
		r.ran()
		r.wait(time.Second)
		r.ran("stop")
		r.is("asleep")
	})
}

// TestIdleStopOfAnUnknownMachineFails: most likely it was off all the time.
func TestIdleStopOfAnUnknownMachineFails(t *testing.T) {
	with(t, full, func(r *rig) {
		r.hooks.set("stop", 0, errors.New("domain is not running"))
		r.wait(24 * time.Hour)
		r.ran("stop")
		r.is("asleep")
	})
}

func TestIdleStopThatFailsIsTriedAfterTheSameTime(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.hooks.set("stop", 0, errors.New("no guest agent"))
		r.wait(30 * time.Minute)
		r.ran("stop")
		r.is("running")
		r.wait(30*time.Minute - time.Second)
		r.ran()
		r.wait(time.Second)
		r.ran("stop")
	})
}

func TestStartDuringStop(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.hooks.set("stop", 10*time.Second, nil)
		r.wait(30*time.Minute + time.Second)
		r.is("stopping")
		r.vm.Reached() // its last words
		r.starts(2 * time.Minute)
		r.starts(2 * time.Minute)
		r.wait(8 * time.Second)
		r.ran("stop")
		r.wait(time.Second)
		r.ran("start")
		r.starts(time.Minute)
		r.vm.Reached()
		r.is("running")
	})
}

// TestWorkDuringStop: it came too late to keep the VM, so the VM comes back.
func TestWorkDuringStop(t *testing.T) {
	with(t, full, func(r *rig) {
		r.hooks.set("stop", 10*time.Second, nil)
		r.wait(30*time.Minute + time.Second)
		r.ran("stop")
		r.vm.Begin()
		r.wait(9 * time.Second)
		r.ran("start")
		r.vm.End()
	})
}

// TestStartFindsTheVMShuttingDown: the stop hook only asks for it, and the
// start hook does not wait for the end.
func TestStartFindsTheVMShuttingDown(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.wait(30 * time.Minute)
		r.ran("stop")
		r.vm.Reached() // it still answers
		r.is("asleep")
		r.hooks.set("start", 0, errors.New("domain is already active"))
		r.starts(time.Minute)
		r.ran("start")
		r.wait(2 * time.Second)
		r.vm.Reached()
		r.is("starting")
		r.wait(2 * time.Second)
		r.ran("start", "start")
		r.hooks.set("start", 0, nil)
		r.wait(4 * time.Second)
		r.ran("start")
		r.is("starting")
		r.vm.Reached()
		r.is("running")

		r.wait(30 * time.Minute)
		r.ran("stop")
		r.hooks.set("start", 0, errors.New("out of memory"))
		r.starts(time.Minute)
		r.wait(time.Minute)
		r.is("asleep")
		r.ran("start", "start", "start", "start", "start", "start")
		r.wait(time.Hour)
		r.starts(time.Minute) // the stop is long past: no second attempt
		r.ran("start")
		r.refuses(10 * time.Second)
	})
}

func TestAsleepMachineThatIsReachedRuns(t *testing.T) {
	with(t, full, func(r *rig) {
		r.wait(30 * time.Minute)
		r.is("asleep")
		r.wait(2 * time.Minute)
		r.vm.Reached() // somebody started it by hand
		r.is("running")
		r.ran("stop")
		r.wait(30 * time.Minute)
		r.ran("stop")
	})
}

func TestRestartOfASickMachine(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.hooks.set("restart", 3*time.Second, nil)
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		r.wait(80 * time.Second)
		r.vm.Reached() // its kernel takes connections
		if due := time.Until(r.vm.Status().RestartsAt); due != 10*time.Second {
			t.Errorf("restart in %v", due)
		}
		r.ran()
		r.wait(10 * time.Second)
		r.ran("restart")
		r.is("restarting")
		r.starts(2 * time.Minute)
		r.wait(3 * time.Second)
		r.is("starting")
		r.starts(time.Minute)
		r.wait(5 * time.Minute)
		r.is("running")
		r.ran()
		r.wait(5*time.Minute - 3*time.Second)
		r.ran("restart")
		r.wait(20 * time.Second)
		r.vm.Unhealthy("10.0.0.1:80", time.Time{})
		r.vm.Reached()
		r.is("running")
		r.wait(20 * time.Minute)
		r.ran()
	})
}

func TestRestartNotForAShortTime(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		for range 20 {
			r.vm.Unhealthy("10.0.0.1:80", time.Now())
			r.wait(89 * time.Second)
			r.vm.Unhealthy("10.0.0.1:80", time.Time{})
			r.wait(time.Millisecond)
		}
		r.hooks.mu.Lock()
		defer r.hooks.mu.Unlock()
		if len(r.hooks.calls) != 0 {
			t.Errorf("hooks %q", r.hooks.calls)
		}
	})
}

func TestRestartNotWhileAnotherAddressIsHealthy(t *testing.T) {
	spec := full
	spec.IdleStop = 0
	with(t, spec, func(r *rig) {
		r.vm.Reached()
		r.vm.Healthy("10.0.0.1:80", true)
		r.vm.Unhealthy("10.0.0.1:8080", time.Now())
		r.wait(time.Hour)
		r.ran()
		r.vm.Healthy("10.0.0.1:80", false)
		r.ran("restart")
	})
}

// TestRestartNotOfWhatSleeps: nobody knows whether it is sick or asleep, or it
// is known to be asleep, or it has only just been started.
func TestRestartNotOfWhatSleeps(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		r.wait(20 * time.Minute)
		r.ran()
		r.wait(10 * time.Minute)
		r.ran("stop")
		r.wait(time.Hour)
		r.is("asleep")
		r.ran()
		r.hooks.set("start", 2*time.Second, nil)
		r.starts(time.Minute)
		r.wait(time.Minute) // it is slow
		r.is("running")
		r.ran("start")
		r.wait(31 * time.Second)
		r.ran()
		r.wait(time.Second)
		r.ran("restart") // 90 s after its start
	})
}

// TestRestartIsNotKeptFromByVisitors: each of them has a sick VM started.
func TestRestartIsNotKeptFromByVisitors(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		restarted := 0
		for range 300 {
			r.vm.Start()
			r.wait(time.Second)
		}
		for _, call := range r.hooks.calls {
			if call == "restart" {
				restarted++
			}
		}
		if restarted != 1 {
			t.Errorf("%d restarts in 5 minutes, want 1: %q", restarted, r.hooks.calls)
		}
	})
}

func TestRestartThatFails(t *testing.T) {
	with(t, Spec{Name: "web1", Restart: []string{"reset"}}, func(r *rig) {
		r.hooks.set("restart", 0, errors.New("no connection"))
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		r.wait(time.Minute)
		r.ran("restart")
		r.is("unknown")
		if s := r.vm.Status(); !strings.Contains(s.Why, "the restart hook failed: no connection") {
			t.Error(s.Why)
		}
		r.wait(10*time.Minute - time.Second)
		r.ran()
		r.wait(time.Second)
		r.ran("restart")
	})
}

func TestDrainedMachineIsLeftAlone(t *testing.T) {
	with(t, full, func(r *rig) {
		r.vm.Reached()
		if err := r.fleet.Drain("web1"); err != nil {
			t.Fatal(err)
		}
		r.is("drained")
		if !r.vm.Drained() {
			t.Error("not drained")
		}
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		if _, err := r.vm.Start(); !errors.Is(err, errDrained) {
			t.Error(err)
		}
		r.wait(24 * time.Hour)
		r.ran()
		if err := r.fleet.Undrain("web1"); err != nil {
			t.Fatal(err)
		}
		r.is("running")
		r.wait(90*time.Second - time.Millisecond)
		r.ran()
		r.wait(time.Millisecond)
		r.ran("restart")
		r.vm.Unhealthy("10.0.0.1:80", time.Time{})
		r.vm.Reached()
		r.wait(30 * time.Minute)
		r.ran("stop")
	})
}

func TestWhatDiscoverySaysOfAMachine(t *testing.T) {
	with(t, full, func(r *rig) {
		off := func(why string) {
			r.vm.mu.Lock()
			r.vm.off(why)
			r.vm.mu.Unlock()
		}
		off("domain is shut off")
		r.is("asleep")
		r.vm.Unhealthy("10.0.0.1:80", time.Now())
		r.wait(2 * time.Hour)
		r.ran()
		off("")
		r.is("running")
		r.vm.Unhealthy("10.0.0.1:80", time.Time{})
		r.wait(30 * time.Minute)
		r.ran("stop")
		off("") // it is still shutting down
		r.is("asleep")
		off("domain is shut off")
		r.starts(time.Minute)
		off("domain is shut off") // an answer from before
		r.is("starting")
		r.ran("start")
	})
}

func TestHookIsGivenTimeWhenUsherEnds(t *testing.T) {
	began := time.Time{}
	with(t, full, func(r *rig) {
		r.hooks.set("start", 3*time.Second, nil)
		r.starts(time.Minute)
		r.ran("start")
		began = time.Now()
		t.Cleanup(func() {
			if h := r.vm.Status().Hook; h == nil || h.Err != "" || h.Took != 3*time.Second {
				t.Errorf("%+v", h)
			}
		})
	})
	if began.IsZero() {
		t.Error("the test did not run")
	}
	with(t, full, func(r *rig) {
		r.hooks.set("start", time.Hour, nil)
		r.starts(time.Minute)
		r.wait(time.Second)
		t.Cleanup(func() {
			if h := r.vm.Status().Hook; h == nil || h.Err == "" || h.Took != 6*time.Second {
				t.Errorf("%+v", h)
			}
			if _, err := r.vm.Start(); err == nil && r.vm.Status().State != "starting" {
				t.Error("a start after the end")
			}
		})
	})
}
