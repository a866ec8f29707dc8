package health

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Run checks until ctx ends and returns nil when every check under way has
// ended. It is called once.
func (c *Checker) Run(ctx context.Context) error {
	var checks sync.WaitGroup
	defer checks.Wait()
	c.restart()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		due, wait := c.due()
		for _, s := range due {
			checks.Go(func() { c.check(ctx, s) })
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-c.wake:
		}
	}
}

// restart paces those who were watched before there was a Run.
func (c *Checker) restart() {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	c.paced = time.Time{}
	for _, s := range c.queue {
		s.due = c.pace(now)
	}
	heap.Init(&c.queue)
}

// due takes the subjects whose time has come out of the queue, as far as there
// is room for their checks, and says how long it is until the next.
func (c *Checker) due() (due []*subject, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	for i := range c.lanes {
		due = c.unhold(&c.lanes[i], room()[i], due)
	}
	for c.running < atOnce {
		if len(c.queue) == 0 {
			return due, time.Hour
		}
		if wait = c.queue[0].due.Sub(now); wait > together {
			return due, wait
		}
		s := heap.Pop(&c.queue).(*subject)
		if l := &c.lanes[s.lane]; l.running >= room()[s.lane] {
			l.held = append(l.held, s)
			continue
		}
		due = append(due, c.begin(s))
	}
	return due, time.Hour // the end of a check comes first
}

// unhold takes those held back as far as there is room. mu is held.
func (c *Checker) unhold(l *lane, room int, due []*subject) []*subject {
	n := 0
	for n < len(l.held) && l.running < room && c.running < atOnce {
		if s := l.held[n]; len(s.watchers) > 0 {
			due = append(due, c.begin(s))
		}
		n++
	}
	l.held = slices.Delete(l.held, 0, n)
	return due
}

// begin counts a check in. mu is held.
func (c *Checker) begin(s *subject) *subject {
	c.running++
	c.lanes[s.lane].running++
	return s
}

// check makes one check, keeps what it said, and queues the next.
func (c *Checker) check(ctx context.Context, s *subject) {
	limited, cancel := context.WithTimeout(ctx, s.check.Timeout)
	begun := time.Now()
	took, err := s.attempt(limited)
	cancel()
	if ctx.Err() != nil {
		return // the end of Run is no failure
	}
	told, state := c.conclude(s, begun, took, err)
	for _, t := range told {
		if t.changed != nil && t.watches() {
			t.changed(state)
		}
	}
	c.proceed(s, begun)
}

// attempt makes a check; a panic is a failure of it.
func (s *subject) attempt(ctx context.Context) (took time.Duration, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("the check itself failed: %v", fault)
		}
	}()
	return s.make(ctx)
}

// conclude keeps a result. It returns whom to tell of a change of state.
func (c *Checker) conclude(s *subject, begun time.Time, took time.Duration, err error) (told []*Target, state State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.running--
	c.lanes[s.lane].running--
	if s.lane = prompt; isTimeout(err) {
		s.lane = silent
	}
	if !s.count(begun, took, err) {
		return nil, 0
	}
	return slices.Clone(s.watchers), State(s.state.Load())
}

// proceed queues the next check. It does so after everybody was told of the
// one before, so that changes are told in order.
func (c *Checker) proceed(s *subject, begun time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if len(s.watchers) > 0 {
		c.schedule(s, s.next(begun, now, s.status.Passed+s.status.Failed == 1))
	}
	if c.waits(now) {
		c.nudge()
	}
}

// waits reports whether somebody may have waited for a check to end. mu is
// held.
func (c *Checker) waits(now time.Time) bool {
	for i := range c.lanes {
		if len(c.lanes[i].held) > 0 {
			return true
		}
	}
	return len(c.queue) > 0 && !c.queue[0].due.After(now)
}

// count adds a result up and reports whether it changes the state.
// Checker.mu is held.
func (s *subject) count(begun time.Time, took time.Duration, err error) (changed bool) {
	was, passed := State(s.state.Load()), err == nil
	st := &s.status
	if st.InARow++; passed != s.passed {
		st.InARow = 1
	}
	s.passed, st.Last, st.Took = passed, begun, took
	now := was
	if passed {
		st.Passed++
		if was == Unknown || st.InARow >= s.check.Rise {
			now = Healthy
		}
		if now == Healthy {
			st.Reason = ""
		}
	} else {
		st.Failed++
		st.Reason = reason(err, s.check.Timeout)
		if was == Unknown || st.InARow >= s.check.Fall {
			now = Unhealthy
		}
	}
	if now == was {
		return false
	}
	s.state.Store(uint32(now))
	st.Since = begun.Add(took)
	return true
}

// isTimeout reports that there was no answer in time.
func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
