package upstream

import (
	"io"
	"sync"
	"time"

	"usher/proxy/message"
)

// early is the body of a response, of which the beginning was read before the
// head is passed on. When all of a small body is there, a VM that dies costs
// nobody an answer: what breaks before can be asked for once more.
type early struct {
	body  message.Body
	buf   *[earlyLimit]byte // nil when nothing was read
	at, n int               // buf[at:n] is to be handed out
	err   error             // what follows it; nil when there is more

	reading chan struct{} // holds an element once the Read under way has ended
	pending bool          // a Read is under way, in a goroutine that end waits for
	got     int           // what it has returned
	gotErr  error
}

const (
	earlyLimit = 16 << 10
	// earlyWait is how long the rest of a small body is waited for. It comes
	// with the head, or at once; one that does not is streamed.
	earlyWait = 50 * time.Millisecond
	// watchAfter is when a VM that is silent has the client watched.
	watchAfter = 500 * time.Millisecond
)

var earlyPool = sync.Pool{New: func() any { return new([earlyLimit]byte) }}

// readEarly reads a small body of an answer to a GET. Of one whose length is
// not known it takes what is there. An error is the VM's or the client's, and
// the exchange has failed.
func (c *conn) readEarly(ex *message.Exchange) error {
	r := &ex.Response
	if r.Body == nil || r.Length > earlyLimit || string(ex.Request.Method) != "GET" {
		return nil
	}
	ready, ok := r.Body.(interface{ Ready() bool })
	if !ok || r.Length == message.Unknown && !ready.Ready() {
		return nil
	}
	if b, ok := r.Body.(interface{ Buffered() int }); ok && c.h1 != nil && int64(b.Buffered()) == r.Length {
		return nil // it is in memory
	}
	e := &c.early
	*e = early{body: r.Body, buf: earlyPool.Get().(*[earlyLimit]byte), reading: e.reading}
	if err := e.fill(c, ready.Ready, r.Length); err != nil {
		return err
	}
	r.Body = e
	return nil
}

// fill reads until the end, or until it would have to wait for too long.
func (e *early) fill(c *conn, ready func() bool, length int64) error {
	var until time.Time
	for e.err == nil && e.n < len(e.buf) {
		if ready() {
			e.read()
			continue
		}
		if length == message.Unknown {
			break
		}
		if until.IsZero() {
			until = time.Now().Add(earlyWait)
			if c.sock != nil {
				defer func() { c.sock.SetReadDeadline(time.Now().Add(watchAfter)) }()
			}
		}
		if !e.wait(c, until) {
			break
		}
	}
	if e.err == io.EOF {
		return nil
	}
	return e.err
}

// read reads what is there.
func (e *early) read() {
	var n int
	n, e.err = e.body.Read(e.buf[e.n:])
	e.n += n
}

// wait reads once when something comes; false when nothing does in time.
func (e *early) wait(c *conn, until time.Time) bool {
	if c.sock != nil {
		if c.sock.WaitReadable(until) != nil {
			return false
		}
		e.read()
		return true
	}
	// What TLS or HTTP/2 hold back cannot be seen from outside.
	e.begin()
	t := time.NewTimer(time.Until(until))
	defer t.Stop()
	select {
	case <-e.reading:
		e.taken()
		return true
	case <-t.C:
		return false
	}
}

// begin has a goroutine read.
func (e *early) begin() {
	if e.reading == nil {
		e.reading = make(chan struct{}, 1)
	}
	e.pending = true
	go func() {
		e.got, e.gotErr = e.body.Read(e.buf[e.n:])
		e.reading <- struct{}{}
	}()
}

// taken is called when the goroutine has ended.
func (e *early) taken() {
	e.pending = false
	e.n += e.got
	e.err = e.gotErr
}

// Read hands out what was read, then reads on.
func (e *early) Read(p []byte) (int, error) {
	if e.at == e.n && e.pending {
		<-e.reading
		e.taken()
	}
	if e.at < e.n {
		n := copy(p, e.buf[e.at:e.n])
		if e.at += n; e.at == e.n && e.err != nil {
			return n, e.err
		}
		return n, nil
	}
	if e.err != nil {
		return 0, e.err
	}
	return e.body.Read(p)
}

// Ready reports whether Read has something to return without waiting.
func (e *early) Ready() bool {
	switch {
	case e.at < e.n || e.err != nil:
		return true
	case e.pending:
		return len(e.reading) > 0
	}
	r, ok := e.body.(interface{ Ready() bool })
	return ok && r.Ready()
}

// Stop implements message.Body.
func (e *early) Stop(err error) { e.body.Stop(err) }

// end gives the memory back. A Read under way must be about to end.
func (e *early) end() {
	if e.buf == nil {
		return
	}
	if e.pending {
		e.body.Stop(nil)
		<-e.reading
	}
	earlyPool.Put(e.buf)
	*e = early{reading: e.reading}
}
