package upstream

import (
	"bytes"
	"io"

	"usher/proxy/message"
)

// replayLimit is how much of a body is kept so that it can be sent again.
const replayLimit = 64 << 10

// replayBody keeps what was read of the body of a request. One goroutine reads; rewind is called between attempts.
type replayBody struct {
	message.Body
	kept bytes.Buffer
	over bool // more than the limit went through
	at   int  // next byte of kept to hand out
	done error
}

// keep wraps the body of a request that may be sent again: an idempotent one,
// and on HTTP/2 every one, since there a VM says what it has not processed (RFC
// 9113 section 8.7). Any other is tried again only if nothing of it was read.
func (p *Pool) keep(ex *message.Exchange) {
	body, ok := ex.Request.Body.(held)
	if ok && (p.spec.HTTP2 || idempotent(ex.Request.Method)) && ex.Request.Length <= replayLimit {
		ex.Request.Body = &replayBody{Body: body.(message.Body)}
	}
}

// Read hands out what was kept, then reads on.
func (r *replayBody) Read(p []byte) (int, error) {
	if r.at < r.kept.Len() {
		n := copy(p, r.kept.Bytes()[r.at:])
		r.at += n
		return n, nil
	}
	if r.done != nil {
		return 0, r.done
	}
	n, err := r.Body.Read(p)
	if r.over = r.over || r.kept.Len()+n > replayLimit; !r.over {
		r.kept.Write(p[:n])
		r.at = r.kept.Len()
	}
	if err == io.EOF {
		r.done = err
	}
	return n, err
}

// Buffered is how many bytes Read returns without waiting.
func (r *replayBody) Buffered() int {
	if r.at < r.kept.Len() {
		return r.kept.Len() - r.at
	}
	if b, ok := r.Body.(interface{ Buffered() int }); ok {
		return b.Buffered()
	}
	return 0
}

// held is a request body that can be given to another VM.
type held interface {
	Untouched() bool // nothing was read of it
	Resume()         // takes Stop back
}

// rewind readies the request for another attempt, if that is possible.
func rewind(ex *message.Exchange) bool {
	ex.Response.Header.Reset()
	ex.Response.Trailer.Reset()
	ex.Response = message.Response{Header: ex.Response.Header, Trailer: ex.Response.Trailer}
	switch b := ex.Request.Body.(type) {
	case nil:
		return true
	case *replayBody:
		b.at = 0
		b.Body.(held).Resume()
		return !b.over
	case held:
		b.Resume()
		return b.Untouched()
	}
	return false
}
