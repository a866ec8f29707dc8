package h2

import (
	"sync"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/budget"
	"usher/proxy/fields"
	"usher/proxy/message"
)

// answerState is how far the answer of an exchange is.
type answerState uint8

const (
	unanswered answerState = iota
	headed                 // a final head was written
	switched               // a 101 was answered with 200
	complete
	aborted
)

// exchange is one stream of a client with its request and the response; it
// implements message.Stream. It is pooled. One goroutine writes.
type exchange struct {
	stream
	ex   message.Exchange
	conn *Conn
	next *exchange // in Conn.pending

	size     int              // of the head
	tunnel   bool             // extended CONNECT: what the client sends is no body
	state    answerState      // owned by the writer; read by finished
	rest     int64            // of the declared response body, or Unknown
	mute     bool             // the client expects no response body
	answered bool             // mu; a final head was written
	expects  bool             // mu; the client waits for a 100
	patience budget.Patience  // mu
	limits   message.Timeouts // mu; of ex, which only the handler may look at
}

var exchangePool sync.Pool

func takeExchange(c *Conn) *exchange {
	e, ok := exchangePool.Get().(*exchange)
	if !ok {
		e = new(exchange)
		e.owner = e
	}
	e.conn = c
	return e
}

// recycle gives an exchange back that nobody uses any more and that no timer
// and no watcher can know.
func (e *exchange) recycle() {
	e.Watch(nil)
	e.ex.Reset()
	e.ex.Client, e.ex.Stream = nil, nil
	e.conn, e.m, e.next = nil, nil, nil
	e.size, e.tunnel, e.state, e.rest, e.mute = 0, false, unanswered, 0, false
	e.answered, e.expects, e.patience = false, false, budget.Patience{}
	exchangePool.Put(e)
}

// begin fills in what the head does not say.
func (e *exchange) begin(start time.Time) {
	c, ex := e.conn, &e.ex
	ex.Client, ex.Stream, ex.Timeouts = c.client, e, c.config.Timeouts
	e.limits = ex.Timeouts
	ex.From = c.client.Addr.Addr()
	ex.Request.Scheme = c.scheme
	ex.Trace.Start = start
}

// resetBy is the client's RST_STREAM. A body that came to its end but was not
// read to it must not seem to end where the reader is.
func (e *exchange) resetBy(http2.ErrCode) {
	e.fail(clientGone())
	if e.recv.size > 0 {
		e.recv.clear()
		e.ended = false
	}
}

// blame: fields.Malformed has said it.
func (e *exchange) blame(why error) error { return why }

// after tells whoever watches that the stream has failed.
func (e *exchange) after() {
	e.stream.tellGone()
}

// tick ends what took too long.
func (e *exchange) tick(now time.Time) (after bool) {
	if !e.tunnel && over(e.writeSince, now, e.limits.ResponseWrite) {
		err := fields.Malformed(errSlowRead)
		e.m.abandon(&e.stream, http2.ErrCodeCancel, err)
		e.m.tooManyResets()
		return true
	}
	if e.limited() && e.patience.Over(e.readSince, now, e.limits.RequestBody) && e.stopped == nil {
		e.stopped = fields.Refuse(408, errSlowBody)
		e.readable.Broadcast()
	}
	return false
}

// limited reports whether the request_body timeout counts: not while usher
// waits for the VM, or the client for a 100. mu is held.
func (e *exchange) limited() bool {
	return !e.answered && !e.expects && !e.tunnel && !e.readSince.IsZero()
}
