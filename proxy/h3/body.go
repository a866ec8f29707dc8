package h3

import (
	"errors"
	"io"
	"os"
	"time"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// errStopped is a Read that Stop has ended.
var errStopped = errors.New("stopped")

// requestBody is the body of a request; it implements message.Body.
type requestBody exchange

// Read returns io.EOF together with the last bytes where it can.
func (b *requestBody) Read(p []byte) (int, error) {
	e := (*exchange)(b)
	n, err := e.readBody(p)
	e.ex.Trace.Received += int64(n)
	return n, err
}

// Stop makes a Read, also one that waits, fail with err. What the client still
// sends is not read, which its windows tell it, until the exchange has ended.
func (b *requestBody) Stop(err error) {
	e := (*exchange)(b)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped == nil {
		e.stopped = err
		e.deadline = time.Unix(1, 0)
		e.str.SetReadDeadline(e.deadline)
	}
}

// Resume takes Stop back, for a request that is sent again. Nobody may be in
// Read.
func (b *requestBody) Resume() {
	e := (*exchange)(b)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped != nil {
		e.stopped, e.deadline = nil, time.Time{}
		e.str.SetReadDeadline(time.Time{})
	}
}

// Ready reports whether Read has something to return without waiting. It is
// for the goroutine that reads.
func (b *requestBody) Ready() bool {
	return b.left > 0 && len(b.in.unread()) > 0 || b.ended || b.failure != nil
}

// Buffered is how many bytes, at least, Read can return without waiting.
func (b *requestBody) Buffered() int { return int(min(b.left, uint64(len(b.in.unread())))) }

// Untouched reports that nothing was read yet, so that the request may be sent
// to another VM.
func (b *requestBody) Untouched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.touched
}

// readBody reads DATA. It remembers what spoilt the body.
func (e *exchange) readBody(p []byte) (int, error) {
	e.mu.Lock()
	stopped := e.stopped
	e.touched = true
	e.mu.Unlock()
	switch {
	case stopped != nil:
		return 0, stopped
	case e.failure != nil:
		return 0, e.failure
	}
	n, err := e.take(p)
	switch {
	case err == nil || err == io.EOF:
		return n, err
	case err == errStopped:
		e.mu.Lock()
		defer e.mu.Unlock()
		return n, e.stopped
	}
	e.failure = e.spoil(err)
	return n, e.failure
}

// take reads bytes of DATA frames.
func (e *exchange) take(p []byte) (n int, err error) {
	for e.left == 0 {
		if e.ended {
			return 0, io.EOF
		}
		if err := e.frame(); err != nil {
			return 0, err
		}
	}
	if uint64(len(p)) > e.left {
		p = p[:e.left]
	}
	if have := e.in.unread(); len(have) > 0 || len(p) == 0 {
		n = copy(p, have)
		e.in.r += n
	} else if n, err = e.receive(p); err != nil {
		e.in.end = err == io.EOF
		if !e.in.end || n == 0 {
			return n, cut(err)
		}
	}
	if e.left -= uint64(n); e.left == 0 && e.in.end && len(e.in.unread()) == 0 {
		return n, e.finish()
	}
	return n, nil
}

// frame reads on to the next DATA (RFC 9114 section 4.1); io.EOF is the end of
// the request. It can be called again after errStopped.
func (e *exchange) frame() error {
	for {
		if err := e.unfinished(); err != nil {
			return err
		}
		kind, n, err := e.in.header()
		switch {
		case err == io.EOF:
			return e.finish()
		case err != nil:
			return err
		case kind == frameData && !e.trailing:
			if err := e.data(n); err != nil || n > 0 {
				return err
			}
		case kind == frameHeaders && !e.trailing && !e.tunnel && n <= maxEncoded:
			e.pending = int(n)
		case kind == frameHeaders && !e.trailing && !e.tunnel:
			return fields.Malformed(fields.ErrTooLarge)
		case kind == frameData || kind == frameHeaders || misplaced(kind):
			return connError{codeUnexpected, errOrder}
		default:
			if err := e.ignore(n); err != nil {
				return err
			}
		}
	}
}

// unfinished reads the rest of the frame that frame was in.
func (e *exchange) unfinished() error {
	if e.pad > 0 {
		return e.in.skip(&e.pad)
	}
	if e.pending < 0 {
		return nil
	}
	p, err := e.in.payload(e.pending, e.grow)
	if err != nil {
		return err
	}
	e.pending = -1
	return e.trailers(p)
}

// data takes the length of a DATA frame.
func (e *exchange) data(n uint64) error {
	if n == 0 && !e.conn.noise(1) {
		return connError{codeExcessive, errNoise}
	}
	if e.rest >= 0 {
		if n > uint64(e.rest) {
			return fields.Malformed(fields.ErrMismatch)
		}
		e.rest -= int64(n)
	}
	e.left = n
	return nil
}

// trailers takes the trailer section.
func (e *exchange) trailers(p []byte) error {
	if e.rest > 0 {
		return fields.Malformed(fields.ErrMismatch)
	}
	e.trailing = true
	if err := e.decode(p); err != nil {
		return err
	}
	defer e.section.Reset()
	if err := fields.Trailer(&e.section, &e.ex.Request.Trailer); err != nil {
		return err
	}
	return nil
}

// finish takes the end of the stream.
func (e *exchange) finish() error {
	if e.rest > 0 {
		return fields.Malformed(fields.ErrMismatch)
	}
	e.ended = true
	return io.EOF
}

// spoil does what a fault of the client's asks for and returns what the reader
// of the body is told.
func (e *exchange) spoil(err error) error {
	var c connError
	var known *message.Error
	switch {
	case errors.As(err, &c):
		e.conn.fail(c)
		return fields.Malformed(c.why)
	case err == errHeads:
		e.reset(codeExcessive)
		return fields.Malformed(errHeads)
	case !errors.As(err, &known):
		e.spoilt.Store(true)
		return clientGone()
	case known.Status == 0 && known.Err != message.ErrClientGone:
		e.reset(codeMessage)
	}
	return known
}

// receive reads from the stream, waiting as long as the limits allow: at least
// one byte, io.EOF maybe with the last ones, or an error.
func (e *exchange) receive(p []byte) (int, error) {
	if !e.begun {
		return e.receiveHead(p)
	}
	for {
		if err := e.await(); err != nil {
			return 0, err
		}
		n, err := e.str.Read(p)
		if n > 0 || err == io.EOF {
			e.arrived(n)
			if err != io.EOF {
				err = nil
			}
			return n, err
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return 0, err
		}
		if err := e.late(); err != nil {
			return 0, err
		}
	}
}

// receiveHead is receive before there is a body.
func (e *exchange) receiveHead(p []byte) (int, error) {
	for {
		n, err := e.str.Read(p)
		switch {
		case n > 0 && err != io.EOF:
			return n, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return 0, errSlowHead
		case n > 0 || err != nil:
			return n, err
		}
	}
}

// await notes that a Read begins to wait and sets how long it may.
func (e *exchange) await() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped != nil {
		return errStopped
	}
	now := time.Now()
	if e.since.IsZero() {
		e.since = now
	}
	e.limit(now)
	return nil
}

// limit sets the deadline for reading: the request_body timeout counts only
// while the client has to send and knows it. mu is held.
func (e *exchange) limit(now time.Time) {
	var d time.Time
	if left := e.patience.Left(e.ex.Timeouts.RequestBody); left > 0 && e.waitsForClient() && !e.since.IsZero() {
		d = e.since.Add(max(left, now.Sub(e.since)+time.Millisecond))
		if ahead := d.Sub(e.deadline); e.deadline.After(now) && ahead >= 0 && ahead < left/8 {
			return // soon enough, and no system timer is set anew for each read
		}
	}
	if !d.Equal(e.deadline) {
		e.deadline = d
		e.str.SetReadDeadline(d)
	}
}

// waitsForClient reports whether it is the client who has to send. mu is held.
func (e *exchange) waitsForClient() bool { return !e.answered && !e.expects && !e.tunnel }

// arrived notes that a wait has brought n bytes.
func (e *exchange) arrived(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waitsForClient() {
		e.patience.Arrived(n, time.Since(e.since))
	}
	e.since = time.Time{}
	if n > 0 {
		e.expects = false // whoever sends does not wait
	}
}

// late decides what a deadline that has passed means.
func (e *exchange) late() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopped == nil && e.waitsForClient() && e.patience.Over(e.since, time.Now(), e.ex.Timeouts.RequestBody) {
		return fields.Refuse(408, errSlowBody)
	}
	return nil
}
