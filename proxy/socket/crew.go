package socket

import (
	"runtime"
	"sync"
)

// crew runs what parked sockets are woken for. Its goroutines are kept for the
// next one for a while: their stacks have grown to what a request needs. One
// that is done takes what waits before it rests. To wake others for it is the
// errand of one goroutine, the starter: where the loop has told of much, it
// lets all that are ready to run go first, and most of what waited has been
// taken when its turn comes.
type crew struct {
	loop *Loop

	mu       sync.Mutex
	tasks    []task  // mu; as many goroutines are on their way, or a starter is
	first    int     // mu; of tasks
	starting bool    // mu; there is a starter
	idle     []*hand // mu; the last one used is the last
	least    int     // mu; fewest of them since the last look
	timed    bool    // mu; the timer is set
	ended    bool    // mu
	timer    Timer
}

// hand is one of the goroutines.
type hand struct {
	wake    chan bool // true makes it the starter
	starter bool
}

type task struct {
	owner    Resumer
	readable bool
}

// run resumes owner on another goroutine.
func (c *crew) run(owner Resumer, readable bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first > len(c.tasks)/2 { // it need not be longer than twice what waits
		n := copy(c.tasks, c.tasks[c.first:])
		clear(c.tasks[n:])
		c.tasks, c.first = c.tasks[:n], 0
	}
	c.tasks = append(c.tasks, task{owner, readable})
	if !c.starting {
		c.starting = true
		c.call(true)
	}
}

// call wakes an idle goroutine, or makes one. The caller holds mu.
func (c *crew) call(starter bool) {
	n := len(c.idle) - 1
	if n < 0 {
		go c.work(starter)
		return
	}
	h := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	c.least = min(c.least, n)
	h.wake <- starter // has room: it was idle
}

func (c *crew) work(starter bool) {
	h := &hand{make(chan bool, 1), starter}
	c.yield(h)
	for t, more := c.next(h); more; t, more = c.next(h) {
		t.owner.Resume(t.readable)
	}
}

// yield lets others go first, if h is the starter and there may be others.
func (c *crew) yield(h *hand) {
	if h.starter && c.loop.crowd.Load() {
		runtime.Gosched()
	}
}

// next takes a task, and waits for one if it has to; false ends the goroutine.
func (c *crew) next(h *hand) (t task, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.first == len(c.tasks) {
		if !c.rest(h) {
			return t, false
		}
	}
	t = c.tasks[c.first]
	c.tasks[c.first] = task{}
	c.first++
	if h.starter {
		h.starter, c.starting = false, false
		for range c.tasks[c.first:] {
			c.call(false)
		}
	}
	if c.first == len(c.tasks) {
		c.tasks, c.first = c.tasks[:0], 0
	}
	return t, true
}

// rest waits until h is called; false says that it is not needed any more. The
// caller holds mu, before and afterwards.
func (c *crew) rest(h *hand) bool {
	if h.starter {
		h.starter, c.starting = false, false
	}
	if c.ended {
		return false
	}
	c.idle = append(c.idle, h)
	if !c.timed {
		c.timed = true
		c.loop.setTick(&c.timer, c.loop.tickAfter(Tick), c)
	}
	c.mu.Unlock()
	starter, more := <-h.wake
	h.starter = starter
	c.yield(h)
	c.mu.Lock()
	return more
}

// Expire lets half of those go that nobody needed since the last look.
func (c *crew) Expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	surplus := (c.least + 1) / 2
	for _, h := range c.idle[:surplus] {
		close(h.wake)
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
		close(h.wake)
	}
	c.idle = nil
	c.least = 0
}
