package h2

import (
	"slices"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// maxIdlers is how many goroutines a connection keeps that have had nothing to
// do for a while: a grown stack is worth more than a new goroutine. Those that
// were needed since the last tick stay as well.
const maxIdlers = 4

// start gives an exchange to a worker, or to the queue while too many handlers
// run, those of streams that were reset included. mu is held.
func (c *Conn) start(e *exchange) {
	if c.running >= maxStreams {
		e.next = nil
		*c.pendingTo, c.pendingTo = e, &e.next
		return
	}
	c.running++
	if n := len(c.idlers); n > 0 {
		w := c.idlers[n-1]
		c.idlers = c.idlers[:n-1]
		c.spare = min(c.spare, n-1)
		w <- e
		return
	}
	c.owned.Add(1)
	go c.work(e)
}

// work serves exchanges until the connection ends or does not need so many
// workers.
func (c *Conn) work(e *exchange) {
	defer c.owned.Done()
	next := make(chan *exchange, 1)
	for e != nil {
		orderly := c.handle(e)
		e = c.finished(e, orderly, next)
	}
}

// handle calls the handler and reports whether it has returned. A panic ends
// the exchange, not the process.
func (c *Conn) handle(e *exchange) (orderly bool) {
	defer func() {
		if p := recover(); p == nil {
			return
		}
		e.stream.stop(errNoHead)
		if e.state == headed {
			e.Abort(errNoHead)
		}
	}()
	c.handler.Serve(c.ctx, &e.ex)
	return true
}

// finished ends an exchange and waits for another; nil is the end. One that is
// not orderly is left to the collector, since something of the handler's may
// still use it.
func (c *Conn) finished(e *exchange, orderly bool, next chan *exchange) *exchange {
	if e.state == unanswered {
		e.WriteHead(&message500)
		e.CloseWrite(nil)
	}
	c.mu.Lock()
	clean := c.conclude(e)
	c.running--
	c.heads -= e.size
	e.close()
	c.rested()
	following := c.dequeue()
	parked := following == nil && c.dead == nil
	if parked {
		c.idlers = append(c.idlers, next)
	}
	c.mu.Unlock()
	if clean && orderly {
		e.recycle()
	}
	if parked {
		following = <-next
	}
	return following
}

// conclude ends the stream of an exchange that the handler is done with, and
// reports whether it can be used again. mu is held.
func (c *Conn) conclude(e *exchange) (clean bool) {
	switch {
	case e.err != nil:
		return false
	case !e.finished:
		c.abandon(&e.stream, http2.ErrCodeInternal, errNoHead)
	case !e.ended: // the client need not send the rest (RFC 9113 section 8.1)
		c.abandon(&e.stream, http2.ErrCodeNo, errFinished)
	default:
		return e.state == complete && !e.tunnel
	}
	c.flush()
	return false
}

// dequeue takes the next exchange whose stream is still open. mu is held.
func (c *Conn) dequeue() *exchange {
	for c.pending != nil {
		e := c.pending
		if c.pending = e.next; c.pending == nil {
			c.pendingTo = &c.pending
		}
		e.next = nil
		if e.err == nil {
			c.running++
			return e
		}
		c.heads -= e.size
		e.close()
	}
	return nil
}

// dismiss sends idle workers home. mu is held.
func (c *Conn) dismiss() {
	for _, w := range c.idlers {
		w <- nil
	}
	c.idlers = nil
}

// trim sends those home that had nothing to do since the last time, but for
// maxIdlers. mu is held.
func (c *Conn) trim() {
	n := max(0, min(c.spare, len(c.idlers)-maxIdlers))
	for _, w := range c.idlers[:n] {
		w <- nil
	}
	c.idlers = slices.Delete(c.idlers, 0, n)
	if c.spare = len(c.idlers); c.spare <= maxIdlers {
		c.idlers = slices.Clip(c.idlers)
	}
}

// message500 answers for a handler that did not.
var message500 = message.Response{Status: 500}
