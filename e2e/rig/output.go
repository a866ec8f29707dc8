package rig

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/e2e/peer"
)

// Output collects what a process writes and lets tests wait for it.
type Output struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{}
}

// NewOutput is an empty Output.
func NewOutput() *Output { return &Output{changed: make(chan struct{})} }

func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b.Write(p)
	close(o.changed)
	o.changed = make(chan struct{})
	return len(p), nil
}

// String is everything so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// Lines is every whole line so far.
func (o *Output) Lines() []string {
	s := o.String()
	return strings.Split(s[:strings.LastIndexByte(s, '\n')+1], "\n")
}

// Until waits until ok is true of the whole text.
func (o *Output) Until(t testing.TB, what string, ok func(string) bool) {
	t.Helper()
	deadline := time.After(peer.Patience)
	for {
		o.mu.Lock()
		text, changed := o.b.String(), o.changed
		o.mu.Unlock()
		if ok(text) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("no %s in the output:\n%s", what, text)
		}
	}
}

// Contains waits until the text holds s.
func (o *Output) Contains(t testing.TB, s string) {
	t.Helper()
	o.Until(t, s, func(text string) bool { return strings.Contains(text, s) })
}

// Eventually polls until ok is true and fails after the patience of a test.
// It is for states of another process that nothing announces.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	EventuallyWithin(t, peer.Patience, what, ok)
}

// EventuallyWithin is Eventually with a limit that the contract sets.
func EventuallyWithin(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	begin, tick := Now(), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if <-tick.C; time.Since(begin.Time) > limit && begin.Took() > limit {
			t.Fatalf("not within %v: %s", limit, what)
		}
	}
}
