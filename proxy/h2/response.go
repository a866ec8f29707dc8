package h2

import (
	"errors"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// WriteHead writes an interim head at once and holds back a final one until
// there is more to write, Flush or CloseWrite. Response.Close means nothing
// here: a refusal concerns one stream, not the connection.
func (e *exchange) WriteHead(r *message.Response) error {
	if e.state != unanswered {
		return errState
	}
	if r.Status == 101 {
		return e.switchHead(r)
	}
	m := e.m
	m.mu.Lock()
	defer m.mu.Unlock()
	e.limits = e.ex.Timeouts
	if _, err := e.reserve(0); err != nil {
		return clientFault(err)
	}
	end := false
	if r.Status >= 200 {
		e.state, e.answered = headed, true
		e.rest = r.Length
		e.mute = string(e.ex.Request.Method) == "HEAD" || r.Status == 304 || r.Status == 204
		end = e.mute || r.Length == 0 && r.Body == nil
	}
	e.head(r.Status, r, nil, end)
	m.grant()
	if r.Status < 200 {
		e.expects = e.expects && r.Status != 100
		m.flush()
	}
	return nil
}

// switchHead answers the 101 of an HTTP/1.1 VM: success of an extended CONNECT
// is a 200 (RFC 8441 section 4).
func (e *exchange) switchHead(r *message.Response) error {
	if !e.tunnel {
		return errState
	}
	if !fields.Accepted(&e.ex.Request, r) {
		return broken(502, fields.ErrAccept)
	}
	m := e.m
	m.mu.Lock()
	defer m.mu.Unlock()
	e.limits = e.ex.Timeouts
	if _, err := e.reserve(0); err != nil {
		return clientFault(err)
	}
	e.state, e.answered = switched, true
	e.head(200, &message.Response{Status: 101, Header: r.Header}, fields.OfHandshake, false)
	m.grant()
	m.flush()
	return nil
}

// head appends the HEADERS of a response, which end it or not. mu is held.
func (e *exchange) head(status int, r *message.Response, skip func(*message.Field) bool, end bool) {
	m := e.m
	at := e.startBlock(end)
	m.budget.Explain(2)
	m.out.grow(maxPrefix)
	m.out.b = m.enc.status(m.out.b, status)
	m.fields(&r.Header, skip)
	if r.Status >= 200 {
		if _, dated := r.Header.Get(message.Date); !dated {
			m.field("date", time.Now().UTC().AppendFormat(m.scratch[:0], http.TimeFormat))
		}
		if r.Length >= 0 && r.Status != 204 {
			m.number("content-length", r.Length)
		}
	}
	if v := fields.Priority(&r.Header); v != nil && r.Status >= 200 {
		e.prioritise(v)
	}
	e.endBlock(at)
	if end {
		e.sentEnd()
	}
}

// clientFault is the error of a write that cannot reach the client.
func clientFault(err error) error {
	var known *message.Error
	if errors.As(err, &known) {
		return err
	}
	return &message.Error{Side: message.ClientSide, Err: err}
}

// Write sends body bytes, as far as the client's windows allow. A body longer
// than declared is an error, and aborts.
func (e *exchange) Write(p []byte) (int, error) {
	switch {
	case e.state != headed:
		return 0, errState
	case e.mute || len(p) == 0:
		return len(p), nil
	case e.rest >= 0 && int64(len(p)) > e.rest:
		err := &message.Error{Side: message.UsherSide, Status: 502, Err: errLong}
		e.Abort(err)
		return 0, err
	}
	n, err := e.sendData(p)
	if e.rest >= 0 {
		e.rest -= int64(n)
	}
	if err != nil {
		err = clientFault(err)
	}
	return n, err
}

// Flush sends what was held back, or leaves it to the goroutine that is
// writing already.
func (e *exchange) Flush() error {
	m := e.m
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flush()
	if e.err != nil {
		return clientFault(e.err)
	}
	return nil
}

// CloseWrite completes the response, or aborts it if it is shorter than
// declared.
func (e *exchange) CloseWrite(trailer *message.Header) error {
	if e.state != headed {
		return errState
	}
	if !e.mute && e.rest > 0 {
		err := &message.Error{Side: message.UsherSide, Status: 502, Err: errShort}
		e.Abort(err)
		return err
	}
	e.state = complete
	m := e.m
	m.mu.Lock()
	defer m.mu.Unlock()
	var err error
	switch {
	case e.finished: // with the head
	case e.err != nil:
		err = e.err
	default:
		err = e.finishWith(trailer)
	}
	m.flush() // after a failure too: others may wait for room in the output
	if err != nil {
		err = clientFault(err)
	}
	return err
}

// finishWith ends our direction, with a trailer section if there is one. mu is
// held.
func (s *stream) finishWith(trailer *message.Header) error {
	if trailer == nil || trailer.Len() == 0 {
		s.finish()
		return nil
	}
	if _, err := s.reserve(0); err != nil {
		return err
	}
	at := s.startBlock(true)
	s.m.fields(trailer, nil)
	s.endBlock(at)
	s.sentEnd()
	s.m.grant()
	return nil
}

// Abort resets the stream, unless the response is complete.
func (e *exchange) Abort(err error) {
	if e.state == complete || e.state == aborted {
		return
	}
	e.state = aborted
	if err == nil {
		err = errFinished
	}
	e.m.mu.Lock()
	defer e.m.mu.Unlock()
	e.m.abandon(&e.stream, http2.ErrCodeInternal, err)
	e.m.flush()
}

// Upgrade hands the stream over after a 101. The connection goes on.
func (e *exchange) Upgrade() (message.Duplex, error) {
	if e.state != switched {
		return nil, errState
	}
	e.state = complete
	return duplex{&e.stream}, nil
}
