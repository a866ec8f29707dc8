package tls

import "container/heap"

// queue is a priority queue of jobs. A job is in at most one.
type queue struct {
	jobs []*job
	less func(a, b *job) bool
}

// byTime is the order in which jobs come due.
func byTime(a, b *job) bool { return a.plan.at.Before(b.plan.at) }

// byUrgency is the order in which due jobs are done: names that a client has
// just asked for, then those that failed less often, so that a thousand names
// that fail do not stand before one that works, then those that came with the
// latest configuration, then those that are due longest.
func byUrgency(a, b *job) bool {
	switch {
	case a.asked != b.asked:
		return a.asked
	case a.plan.failures != b.plan.failures:
		return a.plan.failures < b.plan.failures
	case a.generation != b.generation:
		return a.generation > b.generation
	default:
		return a.turn < b.turn
	}
}

func (q *queue) add(j *job) {
	j.in = q
	heap.Push(q, j)
}

func (q *queue) first() *job {
	if len(q.jobs) == 0 {
		return nil
	}
	return q.jobs[0]
}

func (q *queue) take() *job {
	j := heap.Pop(q).(*job)
	j.in = nil
	return j
}

func (q *queue) remove(j *job) {
	heap.Remove(q, j.index)
	j.in = nil
}

func (q *queue) moved(j *job) { heap.Fix(q, j.index) }

// Len, Less, Swap, Push and Pop are heap.Interface.
func (q *queue) Len() int           { return len(q.jobs) }
func (q *queue) Less(i, k int) bool { return q.less(q.jobs[i], q.jobs[k]) }

func (q *queue) Swap(i, k int) {
	q.jobs[i], q.jobs[k] = q.jobs[k], q.jobs[i]
	q.jobs[i].index, q.jobs[k].index = i, k
}

func (q *queue) Push(x any) {
	j := x.(*job)
	j.index = len(q.jobs)
	q.jobs = append(q.jobs, j)
}

func (q *queue) Pop() any {
	last := len(q.jobs) - 1
	j := q.jobs[last]
	q.jobs[last] = nil
	q.jobs = q.jobs[:last]
	return j
}
