package telemetry

import (
	"sync"
	"sync/atomic"
)

const chunkSize = 64 << 10

// chunk is some whole lines.
type chunk struct {
	buf   []byte
	lines uint64
}

// queue holds lines between those who write them and the one goroutine that
// writes them out. It is bounded: what does not fit is counted and forgotten.
// The lock is held for one copy of a line, some tens of nanoseconds.
type queue struct {
	wake   chan struct{} // there is a first line
	urgent chan struct{} // a chunk is full
	drops  atomic.Uint64

	mu      sync.Mutex
	closed  bool
	current *chunk   // being filled; nil when it was taken away
	full    []*chunk // oldest first
	free    []*chunk
	unmade  int // chunks that may still be allocated
}

func newQueue(size int) *queue {
	return &queue{
		wake:   make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		unmade: max(2, size/chunkSize),
	}
}

// put queues one line, newline included.
func (q *queue) put(line []byte) {
	q.mu.Lock()
	first, filled, ok := q.add(line)
	q.mu.Unlock()
	switch {
	case !ok:
		q.drops.Add(1)
	case filled:
		signal(q.urgent)
	case first:
		signal(q.wake)
	}
}

func (q *queue) add(line []byte) (first, filled, ok bool) {
	if q.closed || len(line) > chunkSize {
		return false, false, false
	}
	if c := q.current; c == nil || len(c.buf)+len(line) > cap(c.buf) {
		next := q.spare()
		if next == nil {
			return false, false, false
		}
		if c != nil {
			q.full = append(q.full, c)
			filled = true
		}
		q.current = next
	}
	first = q.current.lines == 0
	q.current.buf = append(q.current.buf, line...)
	q.current.lines++
	return first, filled, true
}

func (q *queue) spare() *chunk {
	if n := len(q.free); n > 0 {
		c := q.free[n-1]
		q.free = q.free[:n-1]
		return c
	}
	if q.unmade == 0 {
		return nil
	}
	q.unmade--
	return &chunk{buf: make([]byte, 0, chunkSize)}
}

// take moves all chunks that hold lines to dst, oldest first.
func (q *queue) take(dst []*chunk) []*chunk {
	q.mu.Lock()
	defer q.mu.Unlock()
	dst = append(dst, q.full...)
	clear(q.full)
	q.full = q.full[:0]
	if q.current != nil {
		dst = append(dst, q.current)
		q.current = nil
	}
	return dst
}

// recycle gives back a chunk that was taken.
func (q *queue) recycle(c *chunk) {
	c.buf, c.lines = c.buf[:0], 0
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = append(q.free, c)
}

// close lets no more lines in.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
