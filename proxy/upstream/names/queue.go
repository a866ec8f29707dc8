package names

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

const (
	parallel     = 64              // look-ups, and queries, at once
	refreshEvery = time.Second     // at most, see Refresh
	minTTL       = 5 * time.Second // also for a TTL of 0
	maxTTL       = time.Hour
	partTTL      = 30 * time.Second // at most, while a part of an answer is missing
	maxBackOff   = time.Minute      // between tries of a name that fails
	notQueued    = -1
)

// queue is a heap of names, the first to be asked for on top.
type queue []*name

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop complete heap.Interface.
func (q *queue) Push(x any) {
	n := x.(*name)
	n.place = len(*q)
	*q = append(*q, n)
}

// Pop takes the last element away.
func (q *queue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	n.place = notQueued
	return n
}

// schedule sets when a name is asked for. mu is held.
func (r *Resolver) schedule(n *name, due time.Time) {
	n.due = due
	if n.place == notQueued {
		heap.Push(&r.queue, n)
	} else {
		heap.Fix(&r.queue, n.place)
	}
	r.nudge()
}

// unschedule takes a name out of the queue if it is there. mu is held.
func (r *Resolver) unschedule(n *name) {
	if n.place != notQueued {
		heap.Remove(&r.queue, n.place)
	}
}

// nudge makes Run look at the queue.
func (r *Resolver) nudge() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// scheduleAll has every name asked for again within a second: the files have
// changed.
func (r *Resolver) scheduleAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, n := range r.names {
		if n.place == notQueued {
			continue
		}
		if at := now.Add(rand.N(time.Second)); at.Before(n.due) {
			r.schedule(n, at)
		}
	}
}

// pause is how long to wait after a look-up that gave ttl, or that was the
// given number of failures in a row.
func pause(ttl time.Duration, failures int) time.Duration {
	if failures > 0 {
		backOff := min(time.Second<<min(failures-1, 10), maxBackOff)
		return backOff*3/4 + rand.N(backOff/2)
	}
	ttl = min(max(ttl, minTTL), maxTTL)
	return ttl + rand.N(ttl/10)
}
