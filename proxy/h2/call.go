package h2

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// callTick is how often the time limits of calls are looked at, and how long a
// VM may be silent before the client is watched.
const callTick = 400 * time.Millisecond

// Call is one exchange with a VM on a ClientConn. Finish, or the end of the
// Duplex, gives it back.
type Call struct {
	stream
	conn   *ClientConn
	ex     *message.Exchange
	silent time.Duration
	opened bool // it has a stream

	// number is of the exchange, for callbacks that come late. It ends under
	// mux.mu.
	number atomic.Uint64

	// Guarded by mux.mu.
	interims  []message.Response // 1xx that RoundTrip passes on
	interim   int                // how many there were
	response  message.Response   // the final head
	trailer   message.Header
	arena     []byte
	got       bool // the final head has come
	answered  bool // anything has
	head0     time.Time
	headBatch uint32
	uploading bool
	moved     bool // the upload has sent something
	upEnded   time.Time

	uploads  sync.WaitGroup
	watchMu  sync.Mutex
	watching bool        // watchMu
	active   bool        // watchMu; between RoundTrip and Finish
	unwatch  func() bool // watchMu
	ctx      context.Context
}

var callPool sync.Pool

func takeCall(c *ClientConn) *Call {
	call, ok := callPool.Get().(*Call)
	if !ok {
		call = new(Call)
		call.owner = call
	}
	call.conn, call.m = c, &c.mux
	return call
}

// recycle gives a call back that nobody uses any more. mu is not held.
func (c *Call) recycle() {
	c.response.Header.Reset()
	c.trailer.Reset()
	clear(c.interims)
	c.response = message.Response{Header: c.response.Header}
	c.interims, c.interim, c.arena = c.interims[:0], 0, c.arena[:0]
	c.conn, c.m, c.ex, c.ctx = nil, nil, nil, nil
	c.opened, c.got, c.answered, c.moved, c.uploading = false, false, false, false, false
	callPool.Put(c)
}

// RoundTrip sends ex.Request, passes interim responses on to ex.Stream, and
// returns when ex.Response holds the final head, or the 101 that stands for a
// successful extended CONNECT. A body that is not at hand is sent by a
// goroutine of the call's, which RoundTrip leaves running. silent is how long
// the VM may be silent after it got the whole request, or stop reading it; 0
// is for ever.
//
// The error is a *message.Error. Side ClientSide means that the client's body
// failed or the client went; VMSide with Status 502 or 504 means the VM, and
// Replay that it has not processed the request: it refused the stream, went
// away before it, or not one byte was written.
func (c *Call) RoundTrip(ctx context.Context, ex *message.Exchange, silent time.Duration) error {
	c.watchMu.Lock()
	c.number.Add(1)
	c.ctx, c.ex, c.silent, c.active, c.watching = ctx, ex, silent, true, false
	c.watchMu.Unlock()
	if ctx.Err() != nil {
		return clientGone()
	}
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := c.request(); err != nil {
		return err
	}
	return c.receive()
}

// Answered reports whether any byte of a response arrived.
func (c *Call) Answered() bool {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	return c.answered
}

// request sends the head and what is at hand of the body. mu is held.
func (c *Call) request() error {
	m, req := c.m, &c.ex.Request
	c.open(m, 0)
	err := c.turn()
	c.stream.close() // and open it anew: there may have been SETTINGS meanwhile
	if err != nil {
		return err
	}
	c.open(m, c.conn.nextID)
	c.conn.nextID += 2
	c.conn.reserved--
	c.opened = true
	m.add(&c.stream)
	c.head0 = time.Now()
	c.upEnded = c.head0
	m.arm(c.head0, callTick)
	c.headBatch = m.batch
	c.sendHead(req, endsWithHead(req))
	m.grant()
	return c.sendBody(req)
}

// turn waits until it is the turn of c to send a head. mu is held.
func (c *Call) turn() error {
	m := c.m
	if c.ex.Request.Upgrade != nil && m.settled && !c.conn.connects {
		return broken(502, fields.ErrProtocol)
	}
	if m.dead != nil { // nobody makes room in its output
		return replayable(errGoneAway)
	}
	if _, err := c.reserve(0); err != nil {
		return err
	}
	if !c.conn.keeps() {
		m.grant() // the turn of somebody else
		return replayable(errGoneAway)
	}
	return nil
}

func replayable(why fault) *message.Error {
	e := broken(502, why)
	e.Replay = true
	return e
}

// endsWithHead reports that HEADERS end the request. Those of a gRPC request
// never do: its protocol wants END_STREAM in DATA, and there are servers that
// wait for ever without, while a client of HTTP/3 cannot tell the two apart.
func endsWithHead(req *message.Request) bool {
	if req.Body != nil || req.Upgrade != nil {
		return false
	}
	kind, _ := req.Header.Get(message.ContentType)
	return len(kind) < len(typeOfGRPC) || !message.EqualFold(kind[:len(typeOfGRPC)], typeOfGRPC)
}

const typeOfGRPC = "application/grpc"

// sendHead appends the HEADERS of a request (RFC 9113 section 8.3.1). mu is
// held.
func (c *Call) sendHead(req *message.Request, end bool) {
	m := c.m
	at := c.startBlock(end)
	m.budget.Explain(4)
	if req.Upgrade != nil {
		m.field(":method", methodCONNECT)
		m.field(":protocol", req.Upgrade)
	} else {
		m.field(":method", req.Method)
	}
	m.field(":scheme", req.Scheme)
	m.field(":authority", req.Authority)
	m.field(":path", req.Path)
	m.fields(&req.Header, ofOneHop)
	if req.Length > 0 || req.Length == 0 && req.Body != nil {
		m.number("content-length", req.Length)
	}
	if req.ExpectContinue {
		m.field("expect", continue100)
	}
	if req.AcceptTrailers {
		m.field("te", trailersToken)
	}
	c.endBlock(at)
	if end {
		c.sentEnd()
	}
}

var (
	methodCONNECT = []byte("CONNECT")
	continue100   = []byte("100-continue")
	trailersToken = []byte("trailers")
)

// ofOneHop reports a field that does not go into HTTP/2.
func ofOneHop(f *message.Field) bool {
	switch f.ID {
	case message.Host, message.Expect, message.SecWebSocketKey:
		return true
	}
	return fields.OfHandshake(f)
}

// sendBody sends what is at hand of the body, and starts the upload if there
// is more. mu is held.
func (c *Call) sendBody(req *message.Request) error {
	m := c.m
	complete := req.Body == nil && req.Upgrade == nil
	if req.Body != nil {
		var err error
		if complete, err = c.atHand(req); err != nil {
			m.abandon(&c.stream, http2.ErrCodeCancel, err)
			m.flush()
			if !c.got { // a VM may answer early and want no more
				return err
			}
		}
	}
	switch {
	case c.err != nil || c.finished:
	case complete:
		c.finish()
	case req.Body != nil:
		c.uploading = true
		c.uploads.Add(1)
		go c.upload()
	}
	m.flush()
	return nil
}

// atHand sends a small body that has arrived already, and reports whether that
// was all of the request. mu is held, but is released meanwhile.
func (c *Call) atHand(req *message.Request) (complete bool, err error) {
	b, ok := req.Body.(interface {
		Buffered() int
		Ready() bool
	})
	if !ok || req.Length > maxFrame || req.Length > min(c.send, c.m.send) {
		return false, nil
	}
	c.m.mu.Unlock()
	defer c.m.mu.Lock()
	if req.Length < 0 || int64(b.Buffered()) < req.Length {
		return false, nil
	}
	buf := take(mediumBuffer)
	defer func() { give(buf) }()
	for n := 0; ; {
		k, err := req.Body.Read(buf[n:maxFrame])
		n += k
		switch {
		case err != nil && err != io.EOF:
			return false, bodyFault(err)
		case err == io.EOF || int64(n) >= req.Length && !b.Ready():
			_, e := c.sendData(buf[:n])
			return err == io.EOF && e == nil && req.Trailer.Len() == 0, e
		}
	}
}

// upload is the goroutine.
func (c *Call) upload() {
	defer c.uploads.Done()
	err := c.copyBody()
	m := c.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		err = c.finishWith(&c.ex.Request.Trailer)
	}
	if err != nil {
		m.abandon(&c.stream, http2.ErrCodeCancel, err)
	}
	m.flush()
	c.uploading, c.upEnded = false, time.Now()
}

// copyBody sends the body. An error is the client's or the stream's.
func (c *Call) copyBody() error {
	body := c.ex.Request.Body
	peek, _ := body.(interface{ Ready() bool })
	buf := take(mediumBuffer)
	defer func() { give(buf) }()
	for {
		n, err := body.Read(buf[:cap(buf)])
		if n > 0 {
			if _, e := c.sendData(buf[:n]); e != nil {
				return e
			}
			c.sent(peek != nil && peek.Ready())
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return bodyFault(err)
		}
	}
}

// sent flushes unless more is at hand.
func (c *Call) sent(more bool) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	c.moved = true
	if !more {
		c.m.flush()
	}
}

// bodyFault is the error of a request body that failed: the client's, unless
// it says otherwise.
func bodyFault(err error) error {
	var known *message.Error
	if errors.As(err, &known) {
		return known
	}
	return &message.Error{Side: message.ClientSide, Status: 400, Err: message.ErrClientGone}
}

// receive waits for the final head. mu is held.
func (c *Call) receive() error {
	for {
		for len(c.interims) > 0 {
			r := c.interims[0]
			c.interims = c.interims[1:]
			c.m.mu.Unlock()
			err := c.ex.Stream.WriteHead(&r)
			c.m.mu.Lock()
			if err != nil {
				return clientFault(err)
			}
		}
		switch {
		case c.got:
			return c.deliver()
		case c.err != nil:
			return c.err
		}
		c.readable.Wait()
	}
}

// deliver fills ex.Response. mu is held.
func (c *Call) deliver() error {
	r := &c.ex.Response
	r.Header.Reset()
	for _, f := range c.response.Header.All() {
		r.Header.AddField(f.ID, f.Name, f.Value)
	}
	r.Status, r.Length, r.Body = c.response.Status, c.response.Length, nil
	if c.ex.Request.Upgrade != nil && r.Status/100 == 2 {
		return c.upgraded(r)
	}
	if !c.ended || c.recv.size > 0 || c.trailer.Len() > 0 {
		r.Body = (*responseBody)(c)
	}
	return nil
}

// upgraded makes the 200 of an extended CONNECT the 101 of HTTP/1.1.
func (c *Call) upgraded(r *message.Response) error {
	r.Status, r.Length, r.Upgrade = 101, 0, c.ex.Request.Upgrade
	fields.Accept(&c.ex.Request, r)
	return nil
}

// Finish ends the call: it stops the upload if that still runs, waits for it,
// and resets a stream that has not ended. It reports whether the connection
// takes further calls. Call it once for each Open, also after an error, and
// not after Duplex. Fields of the response are not valid after it.
func (c *Call) Finish() (usable bool) {
	c.leave()
	m := c.m
	m.mu.Lock()
	c.conclude()
	uploading := c.uploading
	m.mu.Unlock()
	if uploading {
		c.ex.Request.Body.Stop(errFinished)
	}
	c.uploads.Wait()
	m.mu.Lock()
	c.number.Add(1)
	usable = c.conn.usable()
	if c.opened {
		c.stream.close()
	}
	m.mu.Unlock()
	c.recycle()
	return usable
}

// conclude ends the stream. mu is held.
func (c *Call) conclude() {
	switch {
	case !c.opened:
		c.conn.release()
		return
	case c.err != nil || c.ended && c.finished:
		return
	case c.ended:
		c.m.abandon(&c.stream, http2.ErrCodeNo, errFinished)
	default:
		c.m.abandon(&c.stream, http2.ErrCodeCancel, errFinished)
	}
	c.m.flush()
}

// Close ends the call from any goroutine: RoundTrip, body reads and the upload
// fail. Finish is still to be called. The connection goes on.
func (c *Call) Close() error {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	if c.opened {
		c.m.abandon(&c.stream, http2.ErrCodeCancel, errFinished)
		c.m.flush()
	}
	return nil
}

// Duplex hands the stream over after a 101.
func (c *Call) Duplex() message.Duplex {
	c.leave()
	return duplex{&c.stream}
}
