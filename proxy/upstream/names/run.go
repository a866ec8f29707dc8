package names

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"
)

const (
	lookupLimit = 30 * time.Second // of one look-up, whatever resolv.conf says
	filesEvery  = 5 * time.Second  // looked at for changes
)

// Run asks until ctx ends, and returns nil when the queries under way have
// ended. It is called once.
func (r *Resolver) Run(ctx context.Context) error {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if r.files.reread() {
			r.scheduleAll()
		}
		due, wait := r.due()
		for _, n := range due {
			lookups.Go(func() { r.renew(ctx, n) })
		}
		timer.Reset(min(wait, filesEvery))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.wake:
		}
	}
}

// due takes the names to be asked for now out of the queue, and says how long
// it is until the next one.
func (r *Resolver) due() (due []*name, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.queue) > 0 && r.running < parallel {
		if wait = r.queue[0].due.Sub(now); wait > 0 {
			return due, wait
		}
		n := heap.Pop(&r.queue).(*name)
		n.asked = now
		r.running++
		due = append(due, n)
	}
	return due, filesEvery
}

// renew asks for a name, sets its answer and queues it again.
func (r *Resolver) renew(ctx context.Context, n *name) {
	limited, cancel := context.WithTimeout(ctx, lookupLimit)
	endpoints, ttl, err := r.look(limited, n)
	cancel()
	if ctx.Err() == nil && r.watched(n) {
		r.set(n, endpoints, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running--
	if n.refs == 0 {
		r.nudge() // somebody may have waited for its place
		return
	}
	if n.failures++; len(endpoints) > 0 {
		n.failures = 0
	}
	r.schedule(n, time.Now().Add(pause(ttl, n.failures)))
}

func (r *Resolver) watched(n *name) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return n.refs > 0
}

// set publishes what a look-up found; without endpoints the last ones stay.
func (r *Resolver) set(n *name, endpoints []Endpoint, err error) {
	before := n.feed.Answer()
	if before == nil {
		before = &Answer{}
	}
	if len(endpoints) == 0 {
		endpoints = before.Endpoints
	}
	now := &Answer{Endpoints: endpoints, Err: err, At: time.Now()}
	n.feed.Set(now)
	if text(err) != text(before.Err) || !slices.Equal(endpoints, before.Endpoints) {
		r.log(n.host, now)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
