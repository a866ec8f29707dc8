package socket

import (
	"runtime"
	"sync"
)

// crew runs what parked sockets are woken for. Its goroutines are kept for the
// next one for a while: their stacks have grown to what a request needs. One
// that is done takes what waits before it rests. To wake another for it is the
// errand of one goroutine at a time, the starter: where the loop has told of
// much, it lets all that are ready to run go first, and most of what waits has
// been taken when its turn comes.
type crew struct {
	loop *Loop

	mu       sync.Mutex
	tasks    []task  // mu; while there are any, there is a starter
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
	wake    chan bool // makes it the starter; true asks it to let others go first
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
	c.tasks = append(c.tasks, task{owner, readable})
	if !c.starting {
		c.start(c.loop.crowd.Load())
	}
}

// start makes an idle goroutine, or a new one, the starter. The caller holds mu.
func (c *crew) start(later bool) {
	c.starting = true
	n := len(c.idle) - 1
	if n < 0 {
		go c.work(later)
		return
	}
	h := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	c.least = min(c.least, n)
	h.wake <- later // has room: it was idle
}

func (c *crew) work(later bool) {
	h := &hand{wake: make(chan bool, 1), starter: true}
	if later {
		runtime.Gosched()
	}
	for t, more := c.next(h); more; t, more = c.next(h) {
		t.owner.Resume(t.readable)
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
	if c.first == len(c.tasks) {
		c.tasks, c.first = c.tasks[:0], 0
	}
	if h.starter {
		h.starter, c.starting = false, false
		if len(c.tasks) > 0 {
			c.start(false)
		}
	}
	return t, true
}

// rest waits until h is to be the starter; false says that it is not needed any
// more. The caller holds mu, before and afterwards.
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
	later, more := <-h.wake
	if later {
		runtime.Gosched()
	}
	c.mu.Lock()
	h.starter = more
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
