package h1

import (
	"errors"
	"io"
	"math"
	"sync/atomic"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// requestBody is the body of a client's request; it implements message.Body.
type requestBody struct {
	framed
	x       *exchange
	err     error        // what ended it
	touched bool         // Read was called
	before  mark         // where ReadAhead began
	rest    atomic.Int64 // bytes to come, Unknown, 0 at the end, or the most there can be after a fault
}

func (b *requestBody) reset() {
	b.framed = framed{}
	b.before = mark{}
	b.err, b.touched = nil, false
	if b.rest.Load() != 0 {
		b.rest.Store(0)
	}
}

// Read returns io.EOF together with the last bytes where it can.
func (b *requestBody) Read(p []byte) (n int, err error) {
	b.touched = true
	if b.err != nil {
		return 0, plain(b.err)
	}
	n, err = b.framed.read(p)
	return n, b.note(n, err)
}

// note keeps account of n bytes that were read, and returns what Read does.
func (b *requestBody) note(n int, err error) error {
	b.x.ex.Trace.Received += int64(n)
	switch {
	case err == io.EOF:
		b.rest.Store(0)
	case b.mode == byLength:
		b.rest.Store(b.left)
	}
	if err != nil && err != io.EOF {
		if err = clientFault(err); plain(err) == err && err != errWait {
			b.rest.Store(math.MaxInt64) // no request can follow
		}
	}
	b.err = err
	return plain(err)
}

// ReadPipe is Read into a pipe, which is nil when Read has to copy what comes
// next. The caller returns it to its socket.
func (b *requestBody) ReadPipe() (p *socket.Pipe, from *socket.Socket, err error) {
	from = b.x.conn.bare
	if from == nil || b.err != nil || b.mode != byLength || b.left < leastSpliced || b.buffered() > 0 {
		return nil, nil, nil
	}
	b.touched = true
	p, err = b.x.fillPipe(int(min(b.left, socket.PipeSize)))
	n := 0
	if p != nil {
		n = p.Held()
		b.left -= int64(n)
	}
	switch {
	case err == io.EOF:
		err = errCutBody
	case err == nil && b.left == 0:
		b.ended, err = true, io.EOF
	}
	return p, from, b.note(n, err)
}

// clientFault is the error of a body that could not be read.
func clientFault(err error) error {
	var known *message.Error
	switch e := err.(type) {
	case stopped:
		return e
	case fault:
		if e == errWait {
			return e
		}
		if e != errCutBody {
			return refuse(400, e)
		}
	}
	if errors.As(err, &known) {
		return known
	}
	return &message.Error{Side: message.ClientSide, Status: 400, Err: message.ErrClientGone}
}

// stopped is the error given to Stop on its way through the reader.
type stopped struct{ error }

// plain is err as the caller of Stop knows it.
func plain(err error) error {
	if s, ok := err.(stopped); ok {
		return s.error
	}
	return err
}

// Stop makes a Read, also one that waits, fail with err.
func (b *requestBody) Stop(err error) {
	if err == nil {
		err = errFinished
	}
	c := b.x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if b.x.stopped == nil {
		b.x.stopped = err
		c.wire.SetReadDeadline(past())
	}
}

// Resume takes Stop back, for a request that is sent again. Nobody may be in
// Read.
func (b *requestBody) Resume() {
	if _, ok := b.err.(stopped); ok {
		b.err = nil
	}
	b.x.conn.mu.Lock()
	defer b.x.conn.mu.Unlock()
	b.x.stopped = nil
}

// Ready reports whether Read has something to return without waiting.
func (b *requestBody) Ready() bool { return b.err != nil || b.ended || b.buffered() > 0 }

// Buffered is how many bytes, at least, Read can return without waiting.
func (b *requestBody) Buffered() int { return b.buffered() }

// prefetch reads what is there of a body that may fit room and has not arrived
// with its head.
func (b *requestBody) prefetch(room int) {
	s, waiting := b.x.conn.bare, len(b.in.unread())
	if s == nil || b.ended || waiting >= room || b.mode == byLength && (b.left > int64(room) || b.left <= int64(waiting)) {
		return
	}
	if n, _ := b.in.try(s); n > 0 {
		b.x.conn.mu.Lock()
		b.x.expecting = false // whoever sends does not wait
		b.x.conn.mu.Unlock()
	}
}

// mark is a place in a body.
type mark struct {
	framed
	at      int
	touched bool
}

// mark remembers where b is.
func (b *requestBody) mark() {
	b.before.framed = b.framed
	b.before.at, b.before.touched = b.in.at, b.touched
}

// ReadAhead is Read that never waits: no error and less than len(p) bytes mean
// that more has not arrived. Unread takes it back.
func (b *requestBody) ReadAhead(p []byte) (n int, err error) {
	b.prefetch(len(p))
	b.mark()
	b.in.hold = true
	defer func() { b.in.hold = false }()
	n, err = b.Read(p)
	if err == errWait {
		b.err, err = nil, nil
	}
	return n, err
}

// whole is ReadAhead of all of a body of known length, without a copy; nil if
// that has not arrived. Of what has to be read it is at most limit bytes.
func (b *requestBody) whole(limit int) []byte {
	b.prefetch(limit)
	p := b.in.unread()
	if b.err != nil || b.ended || b.mode != byLength || b.left > int64(len(p)) {
		return nil
	}
	p = p[:b.left]
	b.mark()
	b.touched, b.left, b.ended = true, 0, true
	b.in.at += len(p)
	b.note(len(p), io.EOF)
	return p
}

// Unread makes the n bytes that the last ReadAhead returned be read again.
func (b *requestBody) Unread(n int) {
	b.framed, b.in.at, b.touched = b.before.framed, b.before.at, b.before.touched
	b.x.ex.Trace.Received -= int64(n)
	b.err = nil
}

// Untouched reports that nothing was read yet, so that the request may be sent
// to another VM.
func (b *requestBody) Untouched() bool { return !b.touched }

// discard reads what is left of a body that nobody wants, if it is little and
// comes promptly, and reports whether the connection can be used again.
func (b *requestBody) discard() bool {
	if b.ended {
		return true
	}
	if b.broken() || b.rest.Load() > lingerBytes {
		return false
	}
	buf := take(mediumBuffer)
	defer give(buf)
	for total := 0; total < lingerBytes; {
		n, err := b.framed.read(buf[:cap(buf)])
		if err == io.EOF {
			return true
		}
		if total += n; err != nil {
			return false
		}
	}
	return false
}

// broken reports a body that failed for good, not one that was stopped.
func (b *requestBody) broken() bool {
	return b.err != nil && b.err != io.EOF && b.x.stopped == nil
}
