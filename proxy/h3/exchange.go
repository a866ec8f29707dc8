package h3

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"

	"usher/proxy/budget"
	"usher/proxy/fields"
	"usher/proxy/message"
)

// stream is what an exchange needs of a quic.Stream.
type stream interface {
	io.ReadWriteCloser
	StreamID() quic.StreamID
	Context() context.Context // of the sending side
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	CancelRead(quic.StreamErrorCode)
	CancelWrite(quic.StreamErrorCode)
	SetPriority(urgency int8, incremental bool)
	ReleaseStreamCredit()
}

var _ stream = (*quic.Stream)(nil)

// answerState is how far the answer of an exchange is.
type answerState uint8

const (
	unanswered answerState = iota
	headed                 // a final head was written
	switched               // a 101 was answered with 200
	complete
	aborted
)

const bufferSize = 4 << 10

// exchange is one request stream; it implements message.Stream. It is pooled.
// One goroutine writes and one, maybe another, reads.
type exchange struct {
	ex   message.Exchange
	conn *conn
	str  stream

	// Reading; owned by whoever reads.
	in       input
	section  fields.Section
	decoder  qpack.Decoder
	begun    bool   // the head is complete
	size     int    // what the head holds of the connection's share
	left     uint64 // of the DATA frame
	pad      uint64 // of a frame that is skipped
	pending  int    // of the trailer section; -1 when there is none
	rest     int64  // of the declared length, or message.Unknown
	trailing bool   // the trailer section has come
	ended    bool   // the stream has, in good order
	tunnel   bool   // what comes is no body
	failure  error  // of the body, for good

	mu       sync.Mutex
	stopped  error     // no more of the body is wanted
	touched  bool      // Read was called
	answered bool      // a final head was written
	expects  bool      // the client waits for a 100
	since    time.Time // a Read waits
	deadline time.Time // for reading, as it was set
	patience budget.Patience
	watch    *watcher
	spoilt   atomic.Bool // the stream was reset, by whomever

	// Writing; owned by the writer.
	state    answerState
	out      output
	encoder  *qpack.Encoder
	declared int64 // what is left of the length of the response, or message.Unknown
	mute     bool  // the client expects no response body
	writeBy  time.Time

	inBuf, outBuf [bufferSize]byte
}

// output gathers frames. It is an io.Writer for qpack.
type output struct{ b []byte }

func (o *output) Write(p []byte) (int, error) {
	o.b = append(o.b, p...)
	return len(p), nil
}

var exchanges sync.Pool

func takeExchange(c *conn, s stream, now time.Time) *exchange {
	e, ok := exchanges.Get().(*exchange)
	if !ok {
		e = new(exchange)
		e.encoder = qpack.NewEncoder(&e.out)
		e.in.read = e.receive
		e.clear()
	}
	e.conn, e.str = c, s
	ex := &e.ex
	ex.Client, ex.Stream, ex.Timeouts = c.client, e, c.config.Timeouts
	ex.From = c.client.Addr.Addr()
	ex.Request.Scheme = scheme
	ex.Trace.Start = now
	return e
}

var scheme = []byte("https")

// clear makes e as new.
func (e *exchange) clear() {
	e.ex.Reset()
	e.ex.Client, e.ex.Stream, e.conn, e.str = nil, nil, nil, nil
	e.in.buf, e.in.r, e.in.w, e.in.end = e.inBuf[:], 0, 0, false
	e.section.Reset()
	e.begun, e.size, e.left, e.pad, e.pending, e.rest = false, 0, 0, 0, -1, message.Unknown
	e.trailing, e.ended, e.tunnel, e.failure = false, false, false, nil
	e.stopped, e.touched, e.answered, e.expects = nil, false, false, false
	e.since, e.deadline, e.patience, e.watch = time.Time{}, time.Time{}, budget.Patience{}, nil
	e.spoilt.Store(false)
	e.state, e.out.b, e.declared, e.mute, e.writeBy = unanswered, e.outBuf[:0], message.Unknown, false, time.Time{}
}

// recycle gives an exchange back that nobody uses any more.
func (e *exchange) recycle() {
	e.clear()
	exchanges.Put(e)
}

// reset ends both directions of the stream. It counts against the client, or
// against whoever makes a client cause it.
func (e *exchange) reset(code quic.StreamErrorCode) {
	e.spoilt.Store(true)
	e.str.CancelRead(code)
	e.str.CancelWrite(code)
}

// cancelled reports that the client does not want the answer any more.
func (e *exchange) cancelled() bool {
	ctx := e.str.Context()
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), quic.ErrStreamClosed)
}

// watcher is who wants to know that the client is gone.
type watcher struct {
	mu   sync.Mutex // held while gone runs
	gone func()
	stop func() bool
}

// Watch implements message.Stream. A client cancels with STOP_SENDING, which
// ends the context of the stream like the end of the connection does. One that
// only resets its request is seen by whoever reads the body.
func (e *exchange) Watch(gone func()) {
	if w := e.watch; w != nil {
		e.watch = nil
		w.stop()
		w.mu.Lock()
		w.gone = nil
		w.mu.Unlock()
	}
	if gone == nil {
		return
	}
	w := &watcher{gone: gone}
	ctx := e.str.Context()
	w.stop = context.AfterFunc(ctx, func() { w.tell(context.Cause(ctx)) })
	e.watch = w
}

func (w *watcher) tell(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone := w.gone; gone != nil && !errors.Is(cause, quic.ErrStreamClosed) {
		w.gone = nil
		gone()
	}
}
