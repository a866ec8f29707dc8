package h1

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// exchange is everything a client connection needs only while it has a
// request. It is pooled.
type exchange struct {
	ex     message.Exchange
	conn   *Conn
	in     input
	head   requestHead
	body   requestBody
	stream stream

	patience patience // owned by whoever reads the body

	// Guarded by conn.mu: they decide the read deadline.
	inBody    bool  // the handler may read the body
	expecting bool  // the client waits for a 100
	answered  bool  // a final head was written
	stopped   error // the body is not wanted
}

var exchangePool sync.Pool

func takeExchange(c *Conn) *exchange {
	x, ok := exchangePool.Get().(*exchange)
	if !ok {
		x = new(exchange)
		x.in.r = (*clientReader)(x)
		x.stream.x, x.body.x = x, x
	}
	x.conn, x.in.size = c, smallBuffer
	if c.bodies {
		x.in.size = mediumBuffer
	}
	return x
}

// give returns an exchange that nobody uses any more.
func (x *exchange) give() {
	x.reset()
	x.in.release()
	x.conn, x.ex.Client, x.ex.Stream = nil, nil, nil
	exchangePool.Put(x)
}

// reset readies x for the next request; unread bytes stay.
func (x *exchange) reset() {
	x.ex.Reset()
	x.head.reset()
	x.stream.reset()
	x.body.reset()
	x.in.done()
	x.patience = patience{}
	x.inBody, x.expecting, x.answered, x.stopped = false, false, false, nil
}

// begin fills in what the head does not say.
func (x *exchange) begin() {
	c, ex := x.conn, &x.ex
	ex.Client, ex.Stream, ex.Timeouts = c.client, &x.stream, c.config.Timeouts
	ex.From = c.client.Addr.Addr()
	ex.Request.Scheme = schemeHTTP
	if c.client.TLS {
		ex.Request.Scheme = schemeHTTPS
	}
}

var schemeHTTP, schemeHTTPS = []byte("http"), []byte("https") // never changed

// describe copies what the log wants to know, as far as it was read.
func (x *exchange) describe() {
	t, r := &x.ex.Trace, &x.ex.Request
	t.Method, t.Path, t.Host = r.Method, r.Path, x.head.host
}

// openBody readies the body that a complete head announced.
func (x *exchange) openBody() {
	r := &x.ex.Request
	x.conn.bodies = r.Length > smallBuffer/2
	if r.Length == 0 {
		return
	}
	mode := byLength
	if r.Length == message.Unknown {
		mode = byChunks
	}
	x.body.start(&x.in, mode, r.Length, &x.head.facts, &r.Trailer)
	x.body.rest.Store(r.Length)
	r.Body = &x.body
	x.inBody, x.expecting = true, r.ExpectContinue // nobody else has x yet
}

// limited reports whether the request_body timeout counts. The caller holds
// conn.mu.
func (x *exchange) limited() bool {
	return x.inBody && !x.expecting && !x.answered && x.ex.Timeouts.RequestBody > 0
}

// continued is told that a 100 was written: from now on the client is waited
// for, also by a Read that has begun.
func (x *exchange) continued() {
	x.conn.mu.Lock()
	defer x.conn.mu.Unlock()
	x.expecting = false
	if x.stopped == nil && x.limited() {
		x.conn.wire.SetReadDeadline(time.Now().Add(x.ex.Timeouts.RequestBody))
	}
}

// finalHead is told that the final head is written: the body has no time
// limit any more. It reports whether the client still waits for a 100.
func (x *exchange) finalHead() (expecting bool) {
	if x.ex.Request.Body == nil || x.body.rest.Load() == 0 {
		return false // nobody waits for more
	}
	x.conn.mu.Lock()
	defer x.conn.mu.Unlock()
	x.answered = true
	return x.expecting
}

// clientReader is the exchange as the reader under its input: each Read waits
// as long as the phase allows.
type clientReader exchange

func (r *clientReader) Read(p []byte) (int, error) {
	x := (*exchange)(r)
	if !x.inBody { // changed only while nobody reads
		n, err := readSome(x.conn.rw, p)
		x.conn.full = n == len(p)
		return n, err
	}
	for {
		w, err := x.arm()
		if err != nil {
			return 0, err
		}
		n, err := readSome(x.conn.rw, p)
		x.conn.full = n == len(p)
		if n > 0 {
			return n, x.arrived(n, w)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err := x.expired(); err != nil {
			return 0, err
		}
	}
}

// fillPipe reads body bytes into a pipe, which is nil if they have to be copied.
func (x *exchange) fillPipe(n int) (*socket.Pipe, error) {
	for {
		w, err := x.arm()
		if err != nil {
			return nil, err
		}
		p, err := waitPipe(x.conn.bare, n)
		switch {
		case p != nil:
			return p, x.arrived(p.Held(), w)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return nil, err
		}
		if err := x.expired(); err != nil {
			return nil, err
		}
	}
}

// waitPipe is ReadPipe that waits.
func waitPipe(s *socket.Socket, n int) (p *socket.Pipe, err error) {
	for {
		if err = s.WaitPending(); err == nil {
			p, err = s.ReadPipe(n)
		}
		if err != socket.ErrWait {
			return p, err
		}
	}
}

// readSome reads at least one byte or fails. A deadline never comes with
// bytes, whatever n says.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		n, err := r.Read(p)
		switch {
		case err != nil && (n <= 0 || errors.Is(err, os.ErrDeadlineExceeded)):
			return 0, err
		case n > 0:
			return n, nil
		}
	}
	return 0, io.ErrNoProgress
}

// waiting is a Read of body bytes that is about to wait.
type waiting struct {
	start     time.Time // zero unless the time counts
	expecting bool      // the client may be waiting for us
}

// arm sets the deadline of a Read of body bytes.
func (x *exchange) arm() (w waiting, err error) {
	x.conn.mu.Lock()
	defer x.conn.mu.Unlock()
	if x.stopped != nil {
		return w, stopped{x.stopped}
	}
	var until time.Time
	if x.limited() {
		w.start = time.Now()
		until = w.start.Add(x.ex.Timeouts.RequestBody)
	}
	w.expecting = x.expecting
	x.conn.wire.SetReadDeadline(until)
	return w, nil
}

// arrived accounts what a Read brought.
func (x *exchange) arrived(n int, w waiting) error {
	counts := !w.start.IsZero()
	if counts || w.expecting {
		x.conn.mu.Lock()
		x.expecting = false // whoever sends does not wait
		counts = counts && !x.answered
		x.conn.mu.Unlock()
	}
	if counts && !x.patience.arrived(n, time.Since(w.start)) {
		return refuse(408, errSlowBody)
	}
	return nil
}

// expired looks why a deadline passed; nil means to read on.
func (x *exchange) expired() error {
	x.conn.mu.Lock()
	defer x.conn.mu.Unlock()
	switch {
	case x.stopped != nil:
		return stopped{x.stopped}
	case x.limited():
		return refuse(408, errSlowBody)
	}
	return nil
}
