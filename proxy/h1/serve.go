package h1

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Config is what the connections of all listeners share; it is never changed.
type Config struct {
	RequestHead time.Duration // from the first byte of a head to its end (and, on a new connection, until the first byte)
	KeepAlive   time.Duration // idle between requests
	Timeouts    message.Timeouts
	DrainGrace  time.Duration // how long an idle connection still takes one more request after Drain
}

// Conn is one client connection.
type Conn struct {
	config  *Config
	rw      io.ReadWriter
	wire    wire
	bare    *socket.Socket  // rw, unless TLS lies between
	client  *message.Client // nil while idle, if the addresses of bare are all that is known
	handler message.Handler

	owner Owner     // of a connection that may be parked; else nil
	x     *exchange // of the current request; nil while idle; owned by Serve

	mu       sync.Mutex // guards the read deadline and what decides it
	idle     bool       // mu; Serve waits for a request
	history  history    // owned by Serve
	bodies   bool       // the request before had a body that a small buffer has hardly room for; owned by Serve
	full     bool       // TLS may hold more of what it was asked for last; owned by Serve
	draining atomic.Bool
}

// history is what a connection has been through.
type history uint8

const (
	untouched history = iota
	used              // a request was read
	silent            // it was parked until a limit passed
)

// NewConn prepares a connection. rw is s itself or the TLS connection over it;
// deadlines, CloseWrite and the lingering close work on s. client is nil for a
// plain connection of which nothing is known but the addresses of s: each of
// its exchanges borrows a Client.
func NewConn(c *Config, rw io.ReadWriter, s *socket.Socket, client *message.Client, h message.Handler) *Conn {
	return newConn(c, rw, s, client, h)
}

func newConn(c *Config, rw io.ReadWriter, w wire, client *message.Client, h message.Handler) *Conn {
	return &Conn{config: c, rw: rw, wire: w, bare: bareSocket(rw), client: client, handler: h}
}

// Parked has Serve return ErrParked, instead of waiting with a goroutine, when
// the connection is idle and the memory of everything but the Conn can be given
// back. owner then calls Serve again when he is told to; nobody else may. A TLS
// connection is parked only if it reads from records, its socket. To be called
// before Serve.
func (c *Conn) Parked(records *socket.Records, owner Owner) {
	if c.owner = owner; records != nil {
		c.wire = records // for park; to the rest it is its Socket
	}
}

// Owner is who serves a connection.
type Owner interface {
	// Again is called from another goroutine when Serve is to be called again.
	Again()
}

// ErrParked is returned by Serve for a connection that waits for its next
// request without a goroutine. Whoever gets it must not touch the connection:
// it may be served already.
var ErrParked = errors.New("connection is parked")

// ErrUpgraded is returned by Serve when Stream.Upgrade handed the connection
// over; it then belongs to the Duplex.
var ErrUpgraded = errors.New("connection was handed over")

// Serve reads requests one after the other and has the handler answer them,
// until the client leaves, a fault, a timeout, or Drain. It closes the
// connection unless it returns ErrUpgraded or ErrParked. nil is an orderly end.
func (c *Conn) Serve(ctx context.Context) error {
	c.wire.SetWriteTimeout(c.config.Timeouts.ResponseWrite) // TLS writes before we do
	for {
		again, err := c.serveOne(ctx)
		if !again {
			if err != ErrParked {
				c.forget()
			}
			return err
		}
	}
}

// identify is to be called before the client is asked for.
func (c *Conn) identify() {
	if c.client == nil {
		c.client = message.Borrow(c.bare.Remote(), c.bare.Local())
	}
}

// Remote is the address of the client's end of the socket.
func (c *Conn) Remote() netip.AddrPort { return c.bare.Remote() }

// forget closes a borrowed Client at the end of the connection. It is not given
// back: what went wrong may still use it.
func (c *Conn) forget() {
	if c.client != nil && c.client.Lent() {
		c.client.Close()
	}
}

// serveOne answers one request and reports whether there may be another.
func (c *Conn) serveOne(ctx context.Context) (again bool, err error) {
	arrived, err := c.await()
	if err == ErrParked {
		return false, err
	}
	if !arrived {
		c.close()
		return false, err
	}
	x := c.x
	if again, err := c.readHead(x); !again {
		return false, err
	}
	x.openBody()
	if err := c.handle(ctx, x); err != nil {
		return false, c.failed(x, err)
	}
	return c.finish(x)
}

// handle calls the handler. A panic ends the exchange, not the process.
func (c *Conn) handle(ctx context.Context, x *exchange) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a handler: %v\n%s", p, debug.Stack())
		}
	}()
	c.handler.Serve(ctx, &x.ex)
	return nil
}

// failed ends a connection whose handler panicked. Its buffers are left to the
// collector, since something of the handler's may still use them.
func (c *Conn) failed(x *exchange, err error) error {
	x.body.Stop(err)
	c.x = nil
	switch x.stream.state {
	case unanswered:
		c.answer(x, 500, "")
		c.close() // without lingering: somebody may still read the body
	case complete, aborted, upgraded:
		c.close()
	default:
		x.stream.Abort(err)
	}
	return err
}

// finish decides what becomes of the connection after the handler.
func (c *Conn) finish(x *exchange) (again bool, err error) {
	switch x.stream.state {
	case complete:
		return c.next(x)
	case upgraded:
		err = ErrUpgraded
	case unanswered:
		x.ex.Trace.Status = 500
		c.answer(x, 500, "")
		c.linger()
		err = errNoHead
	case aborted:
		err = x.stream.err
	default:
		x.stream.Abort(errNoHead)
		err = errNoHead
	}
	c.drop()
	return false, err
}

// next readies the connection for another request, or closes it so that the
// client can read the whole response.
func (c *Conn) next(x *exchange) (again bool, err error) {
	keep := x.stream.keep
	if x.ex.Request.Body != nil {
		keep = c.settle(x) && keep
	}
	if !keep {
		ended := x.body.ended || x.ex.Request.Body == nil
		orderly := ended && len(x.in.unread()) == 0 && !x.head.persistent()
		c.drop()
		if orderly {
			c.close()
		} else {
			c.linger()
		}
		return false, nil
	}
	if len(x.in.unread()) > 0 {
		x.reset()
		return true, nil
	}
	if c.drop(); c.client.Give() {
		c.client = nil
	}
	return true, nil
}

// settle gets a body out of the way that was not read to its end.
func (c *Conn) settle(x *exchange) bool {
	if x.body.ended {
		return true
	}
	x.inBody = false
	if !x.stream.keep {
		return false
	}
	c.wire.SetReadDeadline(time.Now().Add(lingerTime))
	return x.body.discard()
}

// drop gives back everything that only a request needs.
func (c *Conn) drop() {
	c.x.give()
	c.x = nil
}

// linger closes after a refusal so that the client can read the answer.
func (c *Conn) linger() {
	closeNotify(c.rw, c.bare)
	c.wire.CloseLinger(lingerBytes, lingerTime)
}

// close ends the connection in order.
func (c *Conn) close() {
	closeNotify(c.rw, c.bare)
	c.wire.Close()
}

// Drain asks a connection, from any goroutine, to end soon: the current or the
// next response says Connection: close, a connection ends when it has been idle
// for Config.DrainGrace since.
func (c *Conn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining.Swap(true) {
		return
	}
	if c.idle {
		c.wire.SetReadDeadline(time.Now().Add(c.config.DrainGrace))
	}
}

// duplex takes what was read ahead and hands the connection over.
func (c *Conn) duplex(in *input) message.Duplex {
	c.wire.SetReadDeadline(time.Time{})
	c.wire.SetWriteTimeout(0) // how long to wait is the tunnel's business now
	return &duplex{rw: c.rw, wire: c.wire, bare: c.bare, ahead: append([]byte(nil), in.unread()...)}
}
