package h1

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// VM is one connection to a VM, used for one exchange at a time.
type VM struct {
	rw   io.ReadWriteCloser
	wire wire
	bare *socket.Socket // rw, unless TLS lies between
	in   input
	head responseHead
	body responseBody

	ctx      context.Context
	ex       *message.Exchange
	silent   time.Duration
	sent     bool // a byte of the request was written
	answered bool // a byte of a response arrived
	final    bool // the final head was read
	watching bool // the client is watched
	unwatch  func() bool

	up upload

	mu       sync.Mutex // guards the read deadline and what decides it
	exchange uint64     // number of the exchange, for callbacks that come late
	gone     bool       // the client has left
	stopped  error      // the response body is not wanted
}

// NewVM prepares a connection. rw is s itself or the TLS connection over it.
func NewVM(rw io.ReadWriteCloser, s *socket.Socket) *VM { return newVM(rw, s) }

func newVM(rw io.ReadWriteCloser, w wire) *VM {
	v := &VM{rw: rw, wire: w, bare: bareSocket(rw)}
	v.in.r, v.in.size, v.in.sock = (*vmReader)(v), mediumBuffer, v.bare
	v.body.v, v.up.v = v, v
	v.up.start = v.up.run
	return v
}

// RoundTrip sends ex.Request, passes interim responses on to ex.Stream, and
// returns when ex.Response holds the final head (or a 101 that switches to the
// protocol that was asked for). If the body is not at hand it is sent by one
// goroutine of the VM's, which RoundTrip leaves running. silent is how long
// the VM may be silent after it got the whole request, or stop reading it; 0
// is for ever.
//
// The error is a *message.Error. Side ClientSide means that the client's body
// failed or the client went; VMSide with Status 502 or 504 means the VM, and
// Replay that nothing of the request can have been processed, since not one
// byte of it was written. Whether another request may be sent again depends
// on its method, on Answered, and on whether its body is still in hand.
func (v *VM) RoundTrip(ctx context.Context, ex *message.Exchange, silent time.Duration) error {
	if err := v.begin(ctx, ex, silent); err != nil {
		return err
	}
	if err := v.send(); err != nil {
		return err
	}
	return v.receive()
}

// Sent reports whether any byte of the request of the last RoundTrip was
// written.
func (v *VM) Sent() bool { return v.sent }

// Answered reports whether any byte of a response to it arrived.
func (v *VM) Answered() bool { return v.answered }

// firstSlice is how long a VM may be silent before the client is watched.
const firstSlice = 500 * time.Millisecond

func (v *VM) begin(ctx context.Context, ex *message.Exchange, silent time.Duration) error {
	v.ctx, v.ex, v.silent = ctx, ex, silent
	v.sent, v.answered, v.final = false, false, false
	v.head.reset()
	v.body.framed = framed{}
	v.body.err = nil
	now := ex.Trace.Tried
	if now.IsZero() {
		now = time.Now()
	}
	v.up.reset(now)
	slice := firstSlice
	if silent > 0 {
		slice = min(slice, silent)
	}
	v.mu.Lock()
	v.exchange++
	v.gone, v.stopped = false, nil
	v.wire.ReadUntil(now.Add(slice))
	v.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return clientGone()
	case len(v.in.unread()) > 0:
		return &message.Error{Side: message.VMSide, Status: 502, Replay: true, Err: errSurplus}
	case v.exchange > 1 && !repeatable(&ex.Request) && !v.wire.Idle():
		return &message.Error{Side: message.VMSide, Status: 502, Replay: true, Err: errEnded}
	}
	return nil
}

func clientGone() *message.Error {
	return &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
}

// Finish ends the exchange: it stops the upload goroutine if it still runs,
// waits for it, and reports whether the connection is in a clean state to be
// used again (response read to its end, request sent to its end, no surplus
// byte, no Connection: close). If not, the caller closes it. Call it once for
// each RoundTrip, also after an error, and not after Duplex. Fields of the
// response are not valid after it.
func (v *VM) Finish() (reusable bool) {
	if v.ex == nil {
		return false
	}
	v.leave()
	reusable = v.up.finish() && v.final && v.settled()
	v.in.release()
	v.ex, v.ctx = nil, nil
	return reusable
}

// settled reports whether nothing can follow the response that was read. A VM
// that refused to switch protocols may see the next bytes as it likes.
func (v *VM) settled() bool {
	v.body.Whole() // what is in memory is no reason to close
	return v.body.ended && v.body.mode != byClose && v.head.persistent() &&
		len(v.in.unread()) == 0 && v.ex.Request.Upgrade == nil
}

// leave ends the watch over the client.
func (v *VM) leave() {
	if !v.watching {
		return
	}
	v.watching = false
	v.ex.Stream.Watch(nil)
	v.unwatch()
}

// Duplex hands the connection over after a 101, without timeouts. The fields of
// the 101 stay valid.
func (v *VM) Duplex() message.Duplex {
	v.leave()
	v.up.finish()
	v.mu.Lock()
	v.exchange++
	v.wire.SetReadDeadline(time.Time{})
	v.mu.Unlock()
	v.wire.SetWriteTimeout(0)
	d := &duplex{rw: v.rw, wire: v.wire, bare: v.bare, ahead: append([]byte(nil), v.in.unread()...)}
	v.ex, v.ctx = nil, nil
	return d
}

// Idle reports whether an idle connection is still open and silent, as far as
// that is known without a system call. RoundTrip asks again for a request that
// could not be sent twice.
func (v *VM) Idle() bool { return len(v.in.unread()) == 0 && v.wire.Quiet() }

// repeatable reports whether a request may be sent again when the connection
// turns out to be closed (RFC 9110 section 9.2.2).
func repeatable(r *message.Request) bool {
	switch string(r.Method) {
	case "GET", "HEAD", "OPTIONS":
		return r.Body == nil
	}
	return false
}

// Close frees the connection. It may be called from any goroutine to unblock
// RoundTrip and body reads.
func (v *VM) Close() error { return v.rw.Close() }

// failure is the error of a connection that broke.
func (v *VM) failure(err error) error {
	var known *message.Error
	if errors.As(err, &known) {
		return known
	}
	if err == io.EOF {
		err = errCutHead
	}
	return &message.Error{Side: message.VMSide, Status: 502, Replay: !v.sent, Err: err}
}
