package h3

import (
	"errors"
	"os"
	"time"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// WriteHead writes an interim head at once and holds back a final one until
// there is more to write, Flush or CloseWrite. Response.Close means nothing
// here: a refusal concerns one stream, not the connection.
func (e *exchange) WriteHead(r *message.Response) error {
	switch {
	case e.state != unanswered:
		return errState
	case r.Status == 101:
		return e.switchHead(r)
	case e.cancelled():
		return clientGone()
	case r.Status < 200:
		e.responseHead(r.Status, r, nil)
		e.interim(r.Status)
		return e.Flush()
	}
	e.state, e.declared = headed, r.Length
	e.mute = string(e.ex.Request.Method) == "HEAD" || r.Status == 304 || r.Status == 204
	e.responseHead(r.Status, r, nil)
	e.answering()
	return nil
}

// interim notes that a client which waited for a 100 waits no more.
func (e *exchange) interim(status int) {
	if status != 100 {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.expects = false
	if now := time.Now(); e.stopped == nil && !e.since.IsZero() {
		e.since = now
		e.limit(now)
	}
}

// answering ends the request_body timeout.
func (e *exchange) answering() {
	e.mu.Lock()
	e.answered = true
	if e.stopped == nil {
		e.limit(time.Time{})
	}
	e.mu.Unlock()
}

// switchHead answers the 101 of an HTTP/1.1 VM: success of an extended CONNECT
// is a 200 (RFC 8441 section 4).
func (e *exchange) switchHead(r *message.Response) error {
	if !e.tunnel {
		return errState
	}
	if !fields.Accepted(&e.ex.Request, r) {
		return &message.Error{Side: message.VMSide, Status: 502, Err: fields.ErrAccept}
	}
	e.state = switched
	e.responseHead(200, &message.Response{Status: 101, Header: r.Header}, fields.OfHandshake)
	e.answering()
	return e.Flush()
}

// Write sends body bytes, or keeps a few for later. A body longer than
// declared is an error, and aborts.
func (e *exchange) Write(p []byte) (int, error) {
	switch {
	case e.state != headed:
		return 0, errState
	case e.mute || len(p) == 0:
		return len(p), nil
	case e.declared >= 0 && int64(len(p)) > e.declared:
		err := ours(errLong)
		e.Abort(err)
		return 0, err
	}
	n, err := e.sendData(p)
	if e.declared >= 0 {
		e.declared -= int64(n)
	}
	return n, err
}

// frameRoom is what the header of a DATA frame takes at most.
const frameRoom = 9

// sendData sends a DATA frame with p. It is copied if it fits the output.
func (e *exchange) sendData(p []byte) (int, error) {
	if len(e.out.b)+frameRoom+len(p) <= bufferSize {
		e.out.b = appendVarint(append(e.out.b, frameData), uint64(len(p)))
		e.out.b = append(e.out.b, p...)
		return len(p), nil
	}
	e.out.b = appendVarint(append(e.out.b, frameData), uint64(len(p)))
	if err := e.Flush(); err != nil {
		return 0, err
	}
	return e.send(p)
}

// Flush sends what was held back.
func (e *exchange) Flush() error {
	if len(e.out.b) == 0 {
		return nil
	}
	_, err := e.send(e.out.b)
	e.out.b = e.out.b[:0]
	return err
}

// send writes p to the stream. The response_write timeout is for the next
// progress, not for all of it; a tunnel has none but its own.
func (e *exchange) send(p []byte) (done int, err error) {
	for done < len(p) {
		if d := e.ex.Timeouts.ResponseWrite; d > 0 && e.state != complete {
			e.writeWithin(d)
		}
		n, err := e.str.Write(p[done:])
		done += n
		switch {
		case err == nil || n > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		case errors.Is(err, os.ErrDeadlineExceeded):
			e.state = aborted
			e.reset(codeCancelled)
			return done, fields.Malformed(errSlowRead)
		default:
			return done, clientFault(err)
		}
	}
	return done, nil
}

// writeWithin sets the deadline for writing, unless the one that is set is
// near enough.
func (e *exchange) writeWithin(d time.Duration) {
	at := time.Now().Add(d)
	if at.Sub(e.writeBy) > d/16 {
		e.writeBy = at
		e.str.SetWriteDeadline(at)
	}
}

// CloseWrite completes the response, or aborts it if it is shorter than
// declared.
func (e *exchange) CloseWrite(trailer *message.Header) error {
	switch {
	case e.state != headed:
		return errState
	case !e.mute && e.declared > 0:
		err := ours(errShort)
		e.Abort(err)
		return err
	case !e.mute && trailer != nil && trailer.Len() > 0:
		e.trailerSection(trailer)
	}
	if err := e.Flush(); err != nil {
		return err
	}
	if err := e.str.Close(); err != nil {
		return clientGone()
	}
	e.state = complete
	e.conn.answered()
	return nil
}

// Abort resets the stream, unless the response is complete.
func (e *exchange) Abort(err error) {
	if e.state == complete || e.state == aborted {
		return
	}
	e.state = aborted
	e.str.CancelWrite(codeInternal)
	if !errors.Is(err, message.ErrClientGone) {
		e.spoilt.Store(e.spoilt.Load() || clientsFault(err))
	}
}

// clientsFault reports that a client made us reset its stream.
func clientsFault(err error) bool {
	var known *message.Error
	return errors.As(err, &known) && known.Side == message.ClientSide
}

// Upgrade hands the stream over after a 101. The connection goes on.
func (e *exchange) Upgrade() (message.Duplex, error) {
	if e.state != switched {
		return nil, errState
	}
	e.state = complete
	e.conn.answered()
	e.str.SetWriteDeadline(time.Time{})
	return &duplex{e: e}, nil
}
