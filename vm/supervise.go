package vm

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"usher/vm/command"
	"usher/vm/discover"
)

// lastWords is how long a hook may go on once usher is ending.
const lastWords = 5 * time.Second

// HookResult is how a hook ended.
type HookResult struct {
	Hook   string // "start", "stop" or "restart"
	Began  time.Time
	Took   time.Duration
	Exit   int    // status of the program; -1 if there is none
	Err    string // why it failed; empty if it did not
	Output string // the last 4 KiB
}

// supervise runs the machine's hooks when they are due, until ctx ends.
func (m *Machine) supervise(ctx context.Context) {
	defer func() {
		m.mu.Lock()
		m.life.ended = true
		m.mu.Unlock()
	}()
	for ctx.Err() == nil {
		what, wait := m.due(time.Now())
		switch what {
		case startIt:
			m.runStart(ctx)
		case stopIt:
			m.runStop(ctx)
		case restartIt:
			m.runRestart(ctx)
		default:
			m.rest(ctx, wait)
		}
	}
}

// rest waits until something may be due; without end if wait is zero.
func (m *Machine) rest(ctx context.Context, wait time.Duration) {
	var after <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		after = timer.C
	}
	select {
	case <-ctx.Done():
	case <-m.wake:
	case <-after:
	}
}

func (m *Machine) runStart(ctx context.Context) {
	s := m.spec.Load()
	m.mu.Lock()
	limit := time.Until(m.life.until)
	m.mu.Unlock()
	err := m.run(ctx, "start", s.Start, limit)
	m.mu.Lock()
	l, now, text := &m.life, time.Now(), ""
	stopping := !l.stopped.IsZero() && now.Sub(l.stopped) < hookLimit+s.StartTimeout
	switch {
	case err == nil:
		l.called = true
		if l.from == Asleep || l.from == Unknown {
			l.born = now
		}
		l.stopped = time.Time{}
		if l.met && !stopping {
			text = m.reached(now)
		}
	case l.met && !stopping:
		l.called = true
		text = m.reached(now)
	case stopping && now.Add(l.pause).Before(l.until):
		l.again = now.Add(l.pause) // it may still be shutting down, which many hooks do not wait for
		l.pause *= 2
	default:
		m.failed(now, l.from, fmt.Errorf("the start hook failed: %w", err))
	}
	m.mu.Unlock()
	m.tell(Event{Text: text})
}

func (m *Machine) runStop(ctx context.Context) {
	s := m.spec.Load()
	m.mu.Lock()
	was := m.life.state
	m.enter(Stopping, fmt.Sprintf("idle for %s", s.IdleStop))
	if m.active.Load() > 0 || m.Drained() { // it came first
		m.enter(was, "it is in use")
		m.mu.Unlock()
		return
	}
	m.mu.Unlock()
	err := m.run(ctx, "stop", s.Stop, hookLimit)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, now := &m.life, time.Now()
	l.stopped, l.idleFrom = now, now
	wanted := len(s.Start) > 0 && (l.wanted || m.active.Load() > 0)
	switch {
	case err == nil:
		m.enter(Asleep, fmt.Sprintf("was idle for %s", s.IdleStop))
	case was == Unknown: // most likely it was off before usher came
		m.enter(Asleep, "never reached, and the stop hook failed: "+err.Error())
	default:
		m.enter(Running, "the stop hook failed: "+err.Error())
	}
	if l.wanted = false; wanted {
		m.begin(now, "somebody wants it")
	}
}

func (m *Machine) runRestart(ctx context.Context) {
	s := m.spec.Load()
	m.mu.Lock()
	was := m.life.state
	m.life.restarted = time.Now()
	m.enter(Restarting, fmt.Sprintf("its checks fail for %s", s.RestartAfter))
	m.mu.Unlock()
	err := m.run(ctx, "restart", s.Restart, hookLimit)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err != nil {
		m.enter(was, "the restart hook failed: "+err.Error())
		return
	}
	m.life.born = time.Now()
	m.begin(m.life.born, "it was restarted")
	m.life.from, m.life.called = Running, true
}

// run runs a hook under a time limit, notes its result and tells of it.
func (m *Machine) run(ctx context.Context, hook string, argv []string, limit time.Duration) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastWords, cancel) })()
	r := &HookResult{Hook: hook, Began: time.Now(), Exit: -1}
	var err error
	if r.Output, err = m.fleet.run(limited, m, hook, argv); err != nil {
		r.Err = err.Error()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			r.Exit = exit.ExitCode()
		}
	} else if !builtin(argv) {
		r.Exit = 0
	}
	r.Took = time.Since(r.Began)
	m.mu.Lock()
	m.life.hook = r
	m.mu.Unlock()
	m.tell(Event{Text: hook + " hook", Err: err, Output: r.Output, Took: r.Took})
	return err
}

// runHook runs a program, or what the machine's source has built in.
func runHook(ctx context.Context, m *Machine, hook string, argv []string) (string, error) {
	if len(argv) == 0 {
		return "", errNoHook // any more, since a moment ago
	}
	if !builtin(argv) {
		return command.Hook(ctx, argv, []string{"USHER_VM=" + m.Name})
	}
	m.mu.Lock()
	source := m.source
	m.mu.Unlock()
	power, ok := source.(discover.Power)
	if !ok {
		return "", fmt.Errorf("no discovery of VM %q has a built-in %s", m.Name, hook)
	}
	switch hook {
	case "start":
		return power.Start(ctx)
	case "stop":
		return power.Stop(ctx)
	}
	return power.Restart(ctx)
}
