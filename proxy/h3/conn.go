package h3

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"usher/proxy/budget"
	"usher/proxy/message"
)

const (
	maxStreams    = 100     // open at once, handlers included
	maxUniStreams = 8       // the client's control and QPACK streams, and unknown ones
	maxHeads      = 2 << 20 // bytes of all heads together
	maxIdlers     = 4       // workers that wait for the next request
)

// Config is what the connections share; it is never changed.
type Config struct {
	RequestHead time.Duration // from the first byte of a stream to the end of its head
	KeepAlive   time.Duration // without a request
	Handshake   time.Duration
	Timeouts    message.Timeouts
	DrainGrace  time.Duration // how long after Drain new requests are taken
}

// conn is one client connection.
type conn struct {
	config    *Config
	client    *message.Client
	handler   message.Handler
	q         *quic.Conn
	ctx       context.Context // ends with the connection
	end       func(code quic.ApplicationErrorCode, why string)
	owned     sync.WaitGroup
	jobs      chan *quic.Stream // to idle workers
	handshake <-chan struct{}   // closed when it is complete

	mu        sync.Mutex
	turn      sync.Cond // running may have become less
	control   *quic.SendStream
	budget    budget.Budget
	next      quic.StreamID // of the next stream that is accepted
	limit     quic.StreamID // streams from here on are refused
	draining  drainState
	busy      int // streams
	running   int // handlers
	heads     int // bytes
	idlers    int
	idleSince time.Time
	timer     *time.Timer
	pause     *time.Timer // of the drain
	seen      [3]bool     // control, encoder, decoder stream

	streams map[quic.StreamID]*quic.Stream // open ones, of requests
	ranks   map[quic.StreamID]rank         // told by PRIORITY_UPDATE, of streams that are open or will be
}

// newConn prepares a connection whose handshake is complete or that has early
// data.
func newConn(q *quic.Conn, config *Config, client *message.Client, h message.Handler) *conn {
	c := &conn{
		config: config, client: client, handler: h, q: q, ctx: q.Context(), handshake: q.HandshakeComplete(), jobs: make(chan *quic.Stream),
		limit: maxStreamID, idleSince: time.Now(), streams: make(map[quic.StreamID]*quic.Stream),
		end: func(code quic.ApplicationErrorCode, why string) { q.CloseWithError(code, why) },
	}
	c.turn.L = &c.mu
	return c
}

// serve takes requests until the connection ends, for whatever reason, and
// returns when all handlers have.
func (c *conn) serve() error {
	defer context.AfterFunc(c.ctx, c.wake)()
	if err := c.open(); err != nil {
		c.end(codeStreamCreation, err.Error())
		return err
	}
	c.owned.Go(c.acceptUni)
	for {
		s, err := c.q.AcceptStream(c.ctx)
		if err != nil {
			break
		}
		c.accept(s)
	}
	<-c.ctx.Done()
	c.stopTimers()
	c.owned.Wait()
	return reason(context.Cause(c.ctx))
}

// reason is why a connection ended, nil if in good order.
func reason(err error) error {
	var app *quic.ApplicationError
	var idle *quic.IdleTimeoutError
	if errors.As(err, &app) && app.ErrorCode == codeNone || errors.As(err, &idle) {
		return nil
	}
	return err
}

// wake tells those who wait for their turn that the connection has ended.
func (c *conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn.Broadcast()
}

// accept gives a stream to a worker, unless it came too late.
func (c *conn) accept(s *quic.Stream) {
	c.mu.Lock()
	c.next = s.StreamID() + 4
	if s.StreamID() >= c.limit {
		quiet := c.budget.Noisy(1, time.Now())
		c.mu.Unlock()
		s.CancelRead(codeRejected)
		s.CancelWrite(codeRejected)
		s.ReleaseStreamCredit()
		if !quiet {
			c.fail(connError{codeExcessive, errNoise})
		}
		return
	}
	c.budget.Open(time.Now())
	c.busy++
	c.streams[s.StreamID()] = s
	c.mu.Unlock()
	select {
	case c.jobs <- s:
	default:
		c.owned.Go(func() { c.work(s) })
	}
}

// work serves streams until there are enough idle workers.
func (c *conn) work(s *quic.Stream) {
	for s != nil {
		c.exchange(s)
		c.forget(s.StreamID())
		s = c.another()
	}
}

// another waits for a stream; nil is the end.
func (c *conn) another() *quic.Stream {
	c.mu.Lock()
	enough := c.idlers == maxIdlers
	if !enough {
		c.idlers++
	}
	c.mu.Unlock()
	if enough {
		return nil
	}
	var s *quic.Stream
	select {
	case s = <-c.jobs:
	case <-c.ctx.Done():
	}
	c.mu.Lock()
	c.idlers--
	c.mu.Unlock()
	return s
}

// fail ends the connection with an error.
func (c *conn) fail(err connError) { c.end(err.code, string(err.why)) }

// noise counts n frames that brought nothing and reports false if that was too
// many.
func (c *conn) noise(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.budget.Noisy(n, time.Now())
}

// reserve takes n bytes of what heads may hold.
func (c *conn) reserve(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.heads+n > maxHeads {
		return false
	}
	c.heads += n
	return true
}

// answered notes that the client took an answer to its end, which explains a
// few of its frames.
func (c *conn) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.Explain(2)
}

// admit waits until the handler may run. It reports false if nobody wants the
// answer any more.
func (c *conn) admit(e *exchange) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if e.cancelled() {
			return false
		}
		if c.running < maxStreams {
			c.running++
			return true
		}
		c.turn.Wait()
	}
}

// released takes back what an exchange held.
func (c *conn) released(e *exchange, ran bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads -= e.size
	c.busy--
	if ran {
		c.running--
		c.turn.Signal()
	}
	c.rested()
}

// countReset counts a stream that was reset, and ends the connection if that
// was one too many.
func (c *conn) countReset() {
	c.mu.Lock()
	calm := c.budget.Reset(time.Now())
	c.mu.Unlock()
	if !calm {
		c.fail(connError{codeExcessive, errResets})
	}
}

// rested notes that nothing is going on, if so. mu is held.
func (c *conn) rested() {
	if c.busy > 0 {
		return
	}
	c.idleSince = time.Now()
	if c.draining == lastStreams {
		c.linger()
	}
}
