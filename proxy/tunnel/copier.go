package tunnel

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

const (
	// waitSize is the buffer that a quiet flow waits with; copySize is what it
	// borrows once it has filled that.
	waitSize = 2 << 10
	copySize = scratchSize

	// lastWords is how long an end that failed as it was written to may still
	// be read.
	lastWords = 5 * time.Second
)

// errBroken is why an end is reset: the other one failed.
var errBroken = errors.New("the other end of the tunnel failed")

// copier is a tunnel of two goroutines, for ends that are not bare sockets.
type copier struct {
	lane  *lane
	flows [2]flow // up, down
	idle  time.Duration
	done  func(Result)
	timer socket.Timer
	last  atomic.Int64 // tick of the last byte

	mu      sync.Mutex
	verdict verdict // mu
	closing bool    // mu; the timer ends the tunnel, whatever moves
	ended   bool    // mu; both flows have ended
}

// flow is one direction of a copier, from an end to its peer.
type flow struct {
	c      *copier
	from   message.Duplex
	back   *flow        // the other direction
	side   message.Side // of from
	broken bool         // c.mu; from has failed: in the end its peer is reset
	total  atomic.Int64
}

func startCopier(l *lane, client, vm message.Duplex, idle time.Duration, done func(Result)) *copier {
	c := &copier{lane: l, idle: idle, done: done}
	c.flows[0] = flow{c: c, from: client, back: &c.flows[1], side: message.ClientSide}
	c.flows[1] = flow{c: c, from: vm, back: &c.flows[0], side: message.VMSide}
	if idle > 0 {
		l.loop.Set(&c.timer, time.Now().Add(idle+socket.Tick), c)
	}
	c.stamp()
	go c.run()
	return c
}

func (c *copier) stamp() { c.last.Store(c.lane.loop.Ticks()) }

// run owns both flows.
func (c *copier) run() {
	var down sync.WaitGroup
	down.Go(c.flows[1].run)
	c.flows[0].run()
	down.Wait()
	res := c.end()
	for i := range c.flows {
		f := &c.flows[i]
		if f.back.broken {
			f.from.Abort(errBroken)
		}
		f.from.Close()
	}
	c.done(res)
}

// end makes Abort and Expire harmless.
func (c *copier) end() Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.lane.loop.Cancel(&c.timer)
	up, down := c.Bytes()
	return Result{Up: up, Down: down, Side: c.verdict.side, Reason: c.verdict.reason}
}

// run copies until the end that is read from has sent all or has failed, or
// the other takes no more.
func (f *flow) run() {
	readErr, writeErr := f.copy()
	if readErr == nil && writeErr == nil {
		f.c.closed(f.side)
		writeErr = f.back.from.CloseWrite()
	}
	switch {
	case readErr != nil:
		f.fail(readErr)
		f.back.from.Abort(readErr)
	case writeErr != nil:
		f.back.fail(writeErr)
		f.c.hurry()
	}
}

// copy returns without an error when all was read and written.
func (f *flow) copy() (readErr, writeErr error) {
	wait := make([]byte, waitSize)
	buf := wait
	var large *[]byte
	defer func() {
		if large != nil {
			f.c.lane.freeBuffer(large)
		}
	}()
	for {
		n, err := f.from.Read(buf)
		if n > 0 {
			f.c.stamp()
			m, err := f.back.from.Write(buf[:n])
			f.total.Add(int64(m))
			if err != nil {
				return nil, err
			}
			f.c.stamp()
		}
		switch {
		case err == io.EOF:
			return nil, nil
		case err != nil:
			return err, nil
		case n == len(wait) && large == nil: // there is more than waiting needs
			large = f.c.lane.takeBuffer(copySize)
			buf = *large
		case n < len(wait) && large != nil:
			f.c.lane.freeBuffer(large)
			buf, large = wait, nil
		}
	}
}

func (c *copier) closed(side message.Side) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verdict.closed(side)
}

// fail notes that the end f is read from is broken.
func (f *flow) fail(err error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.broken = true
	f.c.verdict.failed(f.side, reasonOf(err))
}

// hurry bounds the time of a tunnel whose one end takes no more: what that end
// has sent before is still read.
func (c *copier) hurry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.closing = true
		c.lane.loop.Set(&c.timer, time.Now().Add(lastWords), c)
	}
}

// Expire looks whether the tunnel was idle for too long.
func (c *copier) Expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	quiet := time.Duration(c.lane.loop.Ticks()-c.last.Load()) * socket.Tick
	switch {
	case c.ended:
	case c.closing:
		go c.reset(errBroken)
	case quiet >= c.idle+socket.Tick:
		go c.Abort("idle")
	default:
		c.lane.loop.Set(&c.timer, time.Now().Add(c.idle+socket.Tick-quiet), c)
	}
}

// Abort resets both ends, which unblocks the flows.
func (c *copier) Abort(reason string) {
	c.mu.Lock()
	ended := c.ended
	if !ended && c.verdict.side != message.UsherSide {
		c.verdict = verdict{message.UsherSide, reason}
	}
	c.mu.Unlock()
	if !ended {
		c.reset(errors.New(reason))
	}
}

func (c *copier) reset(err error) {
	c.flows[0].from.Abort(err)
	c.flows[1].from.Abort(err)
}

// Bytes is how much was delivered so far.
func (c *copier) Bytes() (up, down int64) { return c.flows[0].total.Load(), c.flows[1].total.Load() }
