package h3

import (
	"time"

	"github.com/quic-go/quic-go"
)

// drainState is how far a drain is (RFC 9114 section 5.2).
type drainState uint8

const (
	serving      drainState = iota
	firstWarning            // GOAWAY for no stream in particular
	lastStreams             // GOAWAY for the streams that are not taken
	lingering               // no exchange is left
)

const (
	// maxStreamID is the highest ID of a client's bidirectional stream.
	maxStreamID quic.StreamID = 1<<62 - 4
	// minGrace is how long a client may take to hear of a drain.
	minGrace = 100 * time.Millisecond
	// minLinger is how long the last answers may take to arrive, in which a
	// client that heeds GOAWAY closes the connection itself: closing it
	// throws away what was not acknowledged.
	minLinger = time.Second
	// pulse is how often a connection with exchanges on which nothing moves
	// shows that it lives.
	pulse = 10 * time.Second
)

// drain asks the client, from any goroutine, to send new requests elsewhere;
// after the grace they are refused, and the connection ends with its last
// exchange.
func (c *conn) drain(grace time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining != serving || c.ctx.Err() != nil {
		return
	}
	c.draining = firstWarning
	c.goAway(maxStreamID)
	grace = max(grace, minGrace, 2*c.q.ConnectionStats().SmoothedRTT)
	c.pause = time.AfterFunc(grace, c.lastCall)
}

// lastCall ends the first phase.
func (c *conn) lastCall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining != firstWarning {
		return
	}
	c.draining, c.limit = lastStreams, c.next
	c.goAway(c.limit)
	c.rested()
}

// linger ends the connection unless the client does so first. mu is held.
func (c *conn) linger() {
	c.draining = lingering
	d := max(minLinger, 8*c.q.ConnectionStats().SmoothedRTT)
	c.pause = time.AfterFunc(d, func() { c.end(codeNone, "") })
}

// goAway tells the client the first stream that is not taken. mu is held.
func (c *conn) goAway(id quic.StreamID) {
	payload := appendVarint(nil, uint64(id))
	c.tell(append(appendVarint([]byte{frameGoAway}, uint64(len(payload))), payload...))
}

// tell writes to the control stream without waiting. mu is held.
func (c *conn) tell(frame []byte) bool {
	return c.control != nil && c.control.TryWriteAll(frame) == nil
}

// arm starts the timer that looks after a quiet connection.
func (c *conn) arm() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(c.every(), c.tick)
}

// every is how often tick is called.
func (c *conn) every() time.Duration {
	if k := c.config.KeepAlive; k > 0 {
		return min(pulse, max(k/4, 5*time.Millisecond))
	}
	return pulse
}

// tick keeps a connection with exchanges alive (a VM may be silent for longer
// than QUIC's idle timeout) by a frame that means nothing, and ends one
// without. PINGs of the client do not count as use.
func (c *conn) tick() {
	c.mu.Lock()
	idle := false
	switch k := c.config.KeepAlive; {
	case c.busy > 0:
		c.tell([]byte{reserved, 0})
	case k > 0 && c.draining == serving:
		idle = time.Since(c.idleSince) >= k
	}
	if c.ctx.Err() == nil {
		c.timer.Reset(c.every())
	}
	c.mu.Unlock()
	if idle {
		c.drain(0)
	}
}

// stopTimers is called once the connection has ended.
func (c *conn) stopTimers() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range []*time.Timer{c.timer, c.pause} {
		if t != nil {
			t.Stop()
		}
	}
}
