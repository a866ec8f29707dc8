package socket

import "sync"

// crew runs what parked sockets are woken for. Its goroutines are kept for the
// next one for a while: their stacks have grown to what a request needs, and to
// wake one costs no more than to wake a goroutine that has waited itself.
type crew struct {
	loop *Loop

	mu    sync.Mutex
	idle  []*hand // mu; the last one used is the last
	least int     // mu; fewest of them since the last look
	timed bool    // mu; the timer is set
	ended bool    // mu
	timer Timer
}

// hand is one idle goroutine.
type hand struct{ task chan task }

type task struct {
	owner    Resumer
	readable bool
}

// run resumes owner on another goroutine.
func (c *crew) run(owner Resumer, readable bool) {
	c.mu.Lock()
	n := len(c.idle) - 1
	if n < 0 {
		c.mu.Unlock()
		go c.work(task{owner, readable})
		return
	}
	h := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	c.least = min(c.least, n)
	c.mu.Unlock()
	h.task <- task{owner, readable} // has room: it was idle
}

func (c *crew) work(t task) {
	h := &hand{task: make(chan task, 1)}
	for more := true; more; t, more = c.next(h) {
		t.owner.Resume(t.readable)
	}
}

// next waits for the next task; false ends the goroutine.
func (c *crew) next(h *hand) (t task, more bool) {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return t, false
	}
	c.idle = append(c.idle, h)
	set := !c.timed
	c.timed = true
	c.mu.Unlock()
	if set {
		c.loop.setTick(&c.timer, c.loop.tickAfter(Tick), c)
	}
	t, more = <-h.task
	return t, more
}

// Expire lets half of those go that nobody needed since the last look.
func (c *crew) Expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	surplus := (c.least + 1) / 2
	for _, h := range c.idle[:surplus] {
		close(h.task)
	}
	rest := copy(c.idle, c.idle[surplus:])
	clear(c.idle[rest:])
	c.idle = c.idle[:rest]
	c.least = rest
	if c.timed = rest > 0 && !c.ended; c.timed {
		c.loop.setTick(&c.timer, c.loop.tickAfter(Tick), c)
	}
}

// end lets all go.
func (c *crew) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for _, h := range c.idle {
		close(h.task)
	}
	c.idle = nil
	c.least = 0
}
