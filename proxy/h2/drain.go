package h2

import (
	"math"
	"time"

	"golang.org/x/net/http2"
)

// drainState is how far a Drain is (RFC 9113 section 6.8).
type drainState uint8

const (
	serving      drainState = iota
	firstWarning            // GOAWAY for no stream in particular, and a PING
	lastStreams             // GOAWAY for the streams that are not taken
)

// minGrace is how long a client may take to answer the PING of a Drain.
const minGrace = time.Second

// drainPing tells the PING of a Drain from others.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// Drain asks a connection, from any goroutine, to end soon. The client is told
// first; when it has answered a PING, whatever it sent before has arrived, and
// only then new streams are refused. The connection ends with its last stream.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining != serving || c.dead != nil {
		return
	}
	c.draining, c.drainAt = firstWarning, time.Now()
	c.fr.WriteGoAway(math.MaxInt32, http2.ErrCodeNo, nil)
	c.fr.WritePing(false, drainPing)
	c.kick()
	c.arm(c.drainAt, c.every)
}

// pinged ends the first phase. mu is held.
func (c *Conn) pinged() {
	if c.draining != firstWarning {
		return
	}
	c.draining, c.limit = lastStreams, c.last
	c.fr.WriteGoAway(c.last, http2.ErrCodeNo, nil)
	c.kick()
	c.rested()
}

// goneAway: the client's own GOAWAY concerns streams that we never open.
func (c *Conn) goneAway(uint32) {}
