package health

import (
	"container/heap"
	"math/rand/v2"
	"time"
)

const (
	atOnce    = 1536                   // checks under way
	apart     = 500 * time.Microsecond // first checks
	together  = 10 * time.Millisecond  // those due within are made at once: waking up costs as much as a check
	hurry     = 8                      // times more often while results contradict the state
	notQueued = -1
)

// lane is whom a subject shares its share of the checks under way with.
type lane struct {
	running int
	held    []*subject // whose time has come when there was no room; first come first served
}

// The lanes, and how many checks of each may be under way. The sum of the
// latter two leaves room for those who answer.
const (
	prompt = iota // gave an answer the last time
	silent        // did not
	fresh         // were never checked
	lanes
)

func room() [lanes]int { return [lanes]int{prompt: atOnce, silent: 768, fresh: 512} }

// queue is a heap of subjects, the first to be checked on top.
type queue []*subject

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop complete heap.Interface.
func (q *queue) Push(x any) {
	s := x.(*subject)
	s.place = len(*q)
	*q = append(*q, s)
}

// Pop takes the last element away.
func (q *queue) Pop() any {
	last := len(*q) - 1
	s := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	s.place = notQueued
	return s
}

// schedule queues a subject and makes Run look if it is now the first. mu is
// held.
func (c *Checker) schedule(s *subject, due time.Time) {
	s.due = due
	heap.Push(&c.queue, s)
	if s.place == 0 {
		c.nudge()
	}
}

// unschedule takes a subject out of the queue if it is there. mu is held.
func (c *Checker) unschedule(s *subject) {
	if s.place != notQueued {
		heap.Remove(&c.queue, s.place)
	}
}

// nudge makes Run look at the queue.
func (c *Checker) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// pace is when a new subject is checked first: at once, unless many come
// together. mu is held.
func (c *Checker) pace(now time.Time) time.Time {
	if c.paced = c.paced.Add(apart); c.paced.Before(now) {
		c.paced = now
	}
	return c.paced
}

// next is when a subject is checked again. mu is held.
func (s *subject) next(begun, ended time.Time, first bool) time.Time {
	interval := s.check.Interval
	if (State(s.state.Load()) == Healthy) != s.passed {
		interval /= hurry
	}
	wait := interval*9/10 + rand.N(interval/5+1)
	if first {
		wait = interval/4 + rand.N(interval*3/4+1)
	}
	due := begun.Add(wait)
	if soonest := ended.Add(wait / 2); due.Before(soonest) {
		due = soonest
	}
	return due
}
