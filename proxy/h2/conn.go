package h2

import (
	"context"
	"io"
	"math"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
	"usher/proxy/socket"
)

// Config is what the connections of all listeners share; it is never changed.
type Config struct {
	RequestHead time.Duration // for the preface, and from the first byte of a header block to its end
	KeepAlive   time.Duration // without a stream
	Timeouts    message.Timeouts
	DrainGrace  time.Duration // how long after Drain new streams are taken from a client that does not answer a PING
}

// maxHeads is how many bytes the heads of all streams together may have.
const maxHeads = 2 << 20

// Conn is one client connection.
type Conn struct {
	mux
	config  *Config
	client  *message.Client
	handler message.Handler
	scheme  []byte
	every   time.Duration
	ctx     context.Context // ends with the connection; owned by Serve

	// Guarded by mux.mu.
	last      uint32 // highest stream that the client has opened
	limit     uint32 // highest that is taken
	draining  drainState
	drainAt   time.Time
	running   int // handlers
	heads     int // bytes
	pending   *exchange
	pendingTo **exchange
	idlers    []chan *exchange // workers without an exchange
	spare     int              // the fewest idlers there were since the last tick
	idleSince time.Time
	early     [8]earlyPriority
	earlies   int
}

// NewConn prepares a connection. rw is s itself or the TLS connection over it.
func NewConn(c *Config, rw io.ReadWriter, s *socket.Socket, client *message.Client, h message.Handler) *Conn {
	return newConn(c, rw, s, client, h)
}

func newConn(c *Config, rw io.ReadWriter, w wire, client *message.Client, h message.Handler) *Conn {
	conn := &Conn{config: c, client: client, handler: h, scheme: []byte("http"), limit: math.MaxUint32}
	if client.TLS {
		conn.scheme = []byte("https")
	}
	conn.pendingTo = &conn.pending
	conn.every = every(c.RequestHead, c.KeepAlive, c.Timeouts.RequestBody, c.Timeouts.ResponseWrite, c.DrainGrace)
	conn.init(rw, w, conn)
	return conn
}

// Serve reads frames and has the handler answer each request, on a goroutine
// of its own, until the client leaves, a fault, a timeout, or Drain. It
// returns when all handlers have; then the connection is closed. nil is an
// orderly end.
func (c *Conn) Serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	c.ctx = ctx
	c.wire.SetWriteTimeout(c.config.Timeouts.ResponseWrite)
	err := c.serve()
	c.end(err, func(*stream) error { return clientGone() })
	cancel()
	c.mu.Lock()
	c.dismiss()
	last := min(c.last, c.limit)
	c.mu.Unlock()
	c.farewell(last, err)
	c.owned.Wait()
	if err == errDone || err == io.EOF {
		return nil
	}
	return err
}

func (c *Conn) serve() error {
	now := time.Now()
	c.blockSince.Store(now.UnixNano())
	c.mu.Lock()
	c.idleSince = now
	c.arm(now, c.every)
	c.mu.Unlock()
	c.begin(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: maxStreams},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: initialWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: fields.MaxSize},
		http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1},
		http2.Setting{ID: http2.SettingNoRFC7540Priorities, Val: 1},
	)
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(&c.in, preface[:]); err != nil {
		return c.why(err)
	}
	if string(preface[:]) != http2.ClientPreface {
		return protocolError(errPreface)
	}
	return c.read()
}

// headers takes a complete header block of the client's.
func (c *Conn) headers(b *block) error {
	c.mu.Lock()
	if s := c.streams[b.id]; s != nil {
		defer c.mu.Unlock()
		return c.trailers(s.owner.(*exchange), b)
	}
	now := time.Now()
	refused, err := c.admit(b, now)
	c.mu.Unlock()
	if refused || err != nil {
		return err
	}
	return c.request(b, now)
}

// admit decides whether a stream may be opened. refused means that it was
// answered. mu is held.
func (c *Conn) admit(b *block, now time.Time) (refused bool, err error) {
	switch {
	case b.id%2 == 0:
		return true, protocolError(errStreamID)
	case b.id <= c.last:
		return true, c.stray(b.id)
	}
	c.last = b.id
	c.budget.Open(now)
	switch {
	case b.id > c.limit: // the client does not know yet, and will try elsewhere
		c.fr.WriteRSTStream(b.id, http2.ErrCodeRefusedStream)
		c.note(b.id)
		return true, c.answerable()
	case b.selfDep:
		return true, c.induce(b.id, http2.ErrCodeProtocol, errDependency)
	case int(c.busy.Load()) >= maxStreams:
		return true, c.induce(b.id, http2.ErrCodeRefusedStream, errRefused)
	case c.heads+b.section.Size > maxHeads:
		return true, c.induce(b.id, http2.ErrCodeRefusedStream, errHeads)
	}
	return false, nil
}

// answerable is answered, for a refusal that counts as noise only.
func (c *Conn) answerable() error {
	if err := c.noise(); err != nil {
		return err
	}
	return c.answered()
}

// request opens a stream.
func (c *Conn) request(b *block, now time.Time) error {
	e := takeExchange(c)
	e.begin(now)
	var r fields.Request
	err := r.Parse(&b.section, &e.ex)
	if err == nil && !r.Tunnel() {
		err = r.Framing(b.end, &e.ex.Request)
	}
	if err != nil {
		return c.refuse(e, b, &r, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e.open(&c.mux, b.id)
	e.size = b.section.Size
	c.heads += e.size
	e.body(b.end, r.Tunnel())
	e.rank()
	c.add(&e.stream)
	c.arm(now, c.every)
	c.start(e)
	return nil
}

// body readies what follows the head. mu is held.
func (e *exchange) body(end, tunnel bool) {
	e.tunnel = tunnel
	e.ended = end
	req := &e.ex.Request
	if end || tunnel {
		return
	}
	e.left = req.Length
	e.expects = req.ExpectContinue
	if req.Length != 0 {
		req.Body = (*requestBody)(e)
	}
}

// refuse answers a request that the handler never sees, or resets its stream,
// and tells the log. Either counts like a reset by the client.
func (c *Conn) refuse(e *exchange, b *block, r *fields.Request, why *message.Error) error {
	told := *why
	if told.Status == 0 {
		told.Status = 400
	}
	t := &e.ex.Trace
	r.Describe(t)
	t.Status, t.Side, t.Reason = told.Status, told.Side, told.Err.Error()
	c.handler.Malformed(&e.ex, &told)
	c.mu.Lock()
	defer c.mu.Unlock()
	e.open(&c.mux, b.id)
	defer e.close()
	if why.Status == 0 {
		return c.induce(b.id, http2.ErrCodeProtocol, why)
	}
	e.head(why.Status, fields.Refusal(why.Status), nil, true)
	if !b.end {
		c.fr.WriteRSTStream(b.id, http2.ErrCodeNo)
		c.note(b.id)
	}
	if err := c.answered(); err != nil {
		return err
	}
	return c.countReset()
}

// trailers takes the header block that ends a body (RFC 9113 section 8.1). mu
// is held.
func (c *Conn) trailers(e *exchange, b *block) error {
	switch {
	case e.ended:
		return c.induce(e.id, http2.ErrCodeStreamClosed, fields.Malformed(errStreamDone))
	case !b.end || e.tunnel:
		return c.induce(e.id, http2.ErrCodeProtocol, fields.Malformed(errTrailer))
	case e.left > 0:
		return c.induce(e.id, http2.ErrCodeProtocol, fields.Malformed(fields.ErrMismatch))
	}
	if err := fields.Trailer(&b.section, &e.ex.Request.Trailer); err != nil {
		return c.induce(e.id, http2.ErrCodeProtocol, err)
	}
	e.end()
	return nil
}

// idle reports a stream that the client has not opened yet. mu is held.
func (c *Conn) idle(id uint32) bool { return id > c.last || id%2 == 0 }

// setting: nothing else of a client's matters here.
func (c *Conn) setting(http2.Setting) error { return nil }

func (c *Conn) applied() {}

// removed is told of each stream that has ended. mu is held.
func (c *Conn) removed(*stream) { c.rested() }

// rested notes that nothing is going on, if so. mu is held.
func (c *Conn) rested() {
	if c.busy.Load() > 0 || c.running > 0 {
		return
	}
	c.idleSince = time.Now()
	if c.draining == lastStreams {
		c.stop(errDone)
	}
}

// earlyPriority is a PRIORITY_UPDATE that came before its request.
type earlyPriority struct {
	id    uint32
	value string
}

// reprioritised keeps the newest of them. mu is held.
func (c *Conn) reprioritised(id uint32, value string) {
	if id > c.last && len(value) <= 64 {
		c.early[c.earlies%len(c.early)] = earlyPriority{id, value}
		c.earlies++
	}
}

// rank finds the priority of a new stream. mu is held.
func (e *exchange) rank() {
	if v := fields.Priority(&e.ex.Request.Header); v != nil {
		e.prioritise(v)
	}
	if e.conn.earlies == 0 {
		return
	}
	for _, p := range e.conn.early {
		if p.id == e.id {
			e.prioritise([]byte(p.value))
		}
	}
}

// tick looks at the limits of the connection. mu is held.
func (c *Conn) tick(now time.Time) time.Duration {
	if since := c.blockSince.Load(); since != 0 && over(time.Unix(0, since), now, c.config.RequestHead) {
		c.stop(calm(errSlowHead))
		return 0
	}
	if c.draining == firstWarning && now.Sub(c.drainAt) >= max(c.config.DrainGrace, minGrace) {
		c.pinged()
	}
	c.trim()
	if c.busy.Load() > 0 || c.running > 0 || c.blockSince.Load() != 0 || c.draining != 0 {
		return c.every
	}
	if over(c.idleSince, now, c.config.KeepAlive) {
		c.stop(errDone)
		return 0
	}
	c.enc.forget()
	if len(c.idlers) > maxIdlers {
		return c.every
	}
	if c.config.KeepAlive == 0 {
		return 0
	}
	return max(c.config.KeepAlive-now.Sub(c.idleSince), c.every)
}
