package h3

import (
	"errors"
	"time"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// exchange serves one request stream to its end.
func (c *conn) exchange(s stream) {
	now := time.Now()
	e := takeExchange(c, s, now)
	ran := false
	err := e.head(now)
	switch {
	case err != nil:
		c.refuse(e, err)
	case !c.early(e) || !c.admit(e):
		e.reset(codeCancelled)
	default:
		ran = true
		c.handle(e)
	}
	clean := e.conclude()
	c.released(e, ran)
	if e.spoilt.Load() || e.state != complete && e.cancelled() {
		c.countReset()
		clean = false
	}
	s.ReleaseStreamCredit()
	if clean {
		e.recycle()
	}
}

// refuse deals with a request whose head is no good: it answers it, resets its
// stream, or ends the connection, and tells the log.
func (c *conn) refuse(e *exchange, err error) {
	var fatal connError
	var known *message.Error
	switch {
	case errors.As(err, &fatal):
		e.spoilt.Store(true)
		c.note(e, fields.Malformed(fatal.why))
		c.fail(fatal)
	case errors.As(err, &known) && known.Status != 0:
		c.note(e, known)
		e.spoilt.Store(true) // floods of refusals count like resets
		e.WriteHead(fields.Refusal(known.Status))
		e.CloseWrite(nil)
	case errors.As(err, &known):
		c.note(e, known)
		e.reset(codeMessage)
	case err == errSlowHead:
		c.note(e, fields.Refuse(408, errSlowHead))
		e.reset(codeIncomplete)
	case err == errCutHead:
		c.note(e, fields.Malformed(errCutHead))
		e.reset(codeIncomplete)
	case err == errHeads:
		c.note(e, fields.Malformed(errHeads))
		e.reset(codeRejected)
	default:
		e.reset(codeCancelled)
	}
}

// note tells the log of a request that the handler never sees.
func (c *conn) note(e *exchange, why *message.Error) {
	told := *why
	if told.Status == 0 {
		told.Status = 400
	}
	t := &e.ex.Trace
	t.Status, t.Side, t.Reason = told.Status, told.Side, told.Err.Error()
	c.handler.Malformed(&e.ex, &told)
}

// early decides about a request that came before the handshake was complete
// (RFC 8470 section 5): a safe one says so to the VM, any other waits. It
// reports false if the handshake fails.
func (c *conn) early(e *exchange) bool {
	complete := c.handshake
	select {
	case <-complete:
		return true
	default:
	}
	req := &e.ex.Request
	if req.Body == nil && req.Upgrade == nil && safe(req.Method) {
		if _, said := req.Header.Get(message.EarlyData); !said {
			req.Header.AddString("early-data", "1")
		}
		return true
	}
	select {
	case <-complete:
		return true
	case <-c.ctx.Done():
		return false
	}
}

// handle calls the handler. A panic ends the exchange, not the process.
func (c *conn) handle(e *exchange) {
	defer func() {
		if p := recover(); p != nil && e.state == headed {
			e.Abort(errNoHead)
		}
	}()
	c.handler.Serve(c.ctx, &e.ex)
}

// conclude ends the stream of an exchange that nobody is busy with and reports
// whether the exchange can be used again.
func (e *exchange) conclude() (clean bool) {
	e.Watch(nil)
	if e.state == unanswered && !e.spoilt.Load() && !e.cancelled() {
		e.WriteHead(&message.Response{Status: 500})
		e.CloseWrite(nil)
	}
	if e.state != complete {
		e.str.CancelWrite(codeInternal)
	}
	if !e.ended {
		e.str.CancelRead(codeNone) // the rest is not needed (RFC 9114 section 4.1)
	}
	return e.state == complete && !e.tunnel
}
