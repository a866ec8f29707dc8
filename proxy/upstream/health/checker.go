package health

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/socket"
)

// Options is what a Checker works with; the zero value checks over the network.
type Options struct {
	// Dial connects for checks of every kind but TCP; nil: socket.Dial.
	Dial func(ctx context.Context, network, address string) (*socket.Socket, error)
	// Make makes a check instead of the network, for tests on fake time. An
	// error is a failure and its text the reason.
	Make func(ctx context.Context, check Check, address string) error
}

// Checker makes all checks of a process. It is safe for concurrent use.
type Checker struct {
	options Options
	readers readers
	wake    chan struct{} // the queue has changed

	mu       sync.Mutex
	subjects map[key]*subject // mu; those with watchers
	queue    queue            // mu; those that wait for their time
	running  int              // mu; checks under way
	lanes    [lanes]lane      // mu
	paced    time.Time        // mu; when the latest new subject begins
}

// key is what makes a check different from others.
type key struct {
	check   Check // in its normal form
	address string
}

// subject is an address under a check, for all who watch it.
type subject struct {
	key
	make  func(context.Context) (took time.Duration, err error)
	state atomic.Uint32

	watchers []*Target // Checker.mu
	status   Status    // Checker.mu; but for State
	passed   bool      // Checker.mu; the latest check
	lane     int       // Checker.mu
	place    int       // Checker.mu; in the queue, or notQueued
	due      time.Time // Checker.mu
}

// New makes a checker; Run makes it check.
func New(o Options) *Checker {
	if o.Dial == nil {
		o.Dial = socket.Dial
	}
	return &Checker{options: o, wake: make(chan struct{}, 1), subjects: map[key]*subject{}}
}

// Target is one address under one check.
type Target struct {
	checker *Checker
	subject *subject
	changed func(State)
}

// Watch begins to check an address ("ip:port" or "unix:/path"), or joins those
// who do; a new one is checked at once. changed, if not nil, is called after
// every change of state from a goroutine of the checker, one call after the
// other, and perhaps before Watch has returned; it must not block. The caller
// closes the Target.
//
// State is kept while anybody watches: who takes over from another watches
// before the other closes.
func (c *Checker) Watch(check Check, address string, changed func(State)) *Target {
	k := normal(check, address)
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.subjects[k]
	if s == nil {
		s = c.newSubject(k)
		c.subjects[k] = s
		c.schedule(s, c.pace(time.Now()))
	}
	t := &Target{c, s, changed}
	s.watchers = append(s.watchers, t)
	return t
}

func (c *Checker) newSubject(k key) *subject {
	s := &subject{key: k, lane: fresh, place: notQueued, status: Status{Since: time.Now(), Checked: describe(k)}}
	if c.options.Make == nil {
		s.make = newMaker(c.options.Dial, &c.readers, k).make
		return s
	}
	s.make = func(ctx context.Context) (time.Duration, error) {
		begun := time.Now()
		err := c.options.Make(ctx, k.check, k.address)
		return time.Since(begun), err
	}
	return s
}

// State is the present one; it costs one atomic load.
func (t *Target) State() State { return State(t.subject.state.Load()) }

// Status is what is known of the target.
func (t *Target) Status() Status {
	t.checker.mu.Lock()
	defer t.checker.mu.Unlock()
	status := t.subject.status
	status.State = t.State()
	return status
}

// Close gives the watch up; the last one ends the checks, and what is known is
// forgotten. A call of changed that has begun may still run when Close
// returns; no other begins. Closing again does nothing.
func (t *Target) Close() {
	c, s := t.checker, t.subject
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(s.watchers, t)
	if i < 0 {
		return
	}
	s.watchers = slices.Delete(s.watchers, i, i+1)
	if len(s.watchers) == 0 {
		delete(c.subjects, s.key)
		c.unschedule(s)
	}
}

// watches reports whether a Target was not closed yet.
func (t *Target) watches() bool {
	t.checker.mu.Lock()
	defer t.checker.mu.Unlock()
	return slices.Contains(t.subject.watchers, t)
}
