package health

import (
	"context"
	"sync/atomic"

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

// Checker makes all checks of a process.
type Checker struct{}

// New makes a checker; Run makes it check.
func New(Options) *Checker { return &Checker{} }

// Run checks until ctx ends and returns when every check under way has ended.
func (c *Checker) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Target is one address under one check.
type Target struct{ state atomic.Uint32 }

// Watch begins to check an address ("ip:port" or "unix:/path"), or joins those
// who do; a new one is checked at once. changed, if not nil, is called after
// every change of state from a goroutine of the checker. The caller closes the
// Target.
func (c *Checker) Watch(check Check, address string, changed func(State)) *Target { return &Target{} }

// State is the present one; it costs one atomic load.
func (t *Target) State() State { return State(t.state.Load()) }

// Status is what is known of the target.
func (t *Target) Status() Status { return Status{} }

// Close gives the watch up; the last one ends the checks.
func (t *Target) Close() {}
