package h1

import (
	"errors"
	"slices"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// streamState is how far the answer of an exchange is.
type streamState uint8

const (
	unanswered streamState = iota
	headed                 // a final head was written
	switching              // a 101 was written
	complete
	aborted
	upgraded
)

// stream is the client's side of one exchange; it implements message.Stream.
// One goroutine writes.
type stream struct {
	x     *exchange
	out   []byte // what Write held back
	state streamState
	mode  framing // of the response body
	left  int64   // byLength: bytes to come
	keep  bool    // the connection takes another request
	begun bool    // the kernel may hold back the beginning of the body
	mute  bool    // byLength or byClose, but a body that the client does not expect
	err   error   // why it was aborted
}

func (s *stream) reset() {
	give(s.out)
	*s = stream{x: s.x}
}

var errState = errors.New("the response is past that point")

// WriteHead writes an interim head at once and holds back a final one until
// there is more to write, Flush or CloseWrite.
func (s *stream) WriteHead(r *message.Response) error {
	if s.state != unanswered {
		return errState
	}
	s.x.conn.wire.SetWriteTimeout(s.x.ex.Timeouts.ResponseWrite)
	switch {
	case r.Status == 101:
		return s.switchHead(r)
	case r.Status < 200:
		return s.interim(r)
	}
	expecting := s.x.finalHead()
	s.state = headed
	s.frame(r)
	s.keep = s.mode != byClose && !expecting && !r.Close && s.reusable()
	s.head(r)
	return nil
}

// interim passes a 1xx on, which HTTP/1.0 does not know (RFC 9110 section
// 15.2).
func (s *stream) interim(r *message.Response) error {
	if s.x.head.minor == 0 {
		return nil
	}
	b, _ := appendFields(appendStatus(s.buffer(), r.Status), &r.Header)
	s.out = append(b, "\r\n"...)
	err := s.Flush()
	if r.Status == 100 {
		s.x.continued()
	}
	return err
}

// switchHead agrees to what Upgrade asked for.
func (s *stream) switchHead(r *message.Response) error {
	if s.x.ex.Request.Upgrade == nil {
		return errState
	}
	protocol := r.Upgrade
	if protocol == nil {
		protocol = s.x.ex.Request.Upgrade
	}
	s.state = switching
	b := append(appendStatus(s.buffer(), 101), "Connection: Upgrade\r\nUpgrade: "...)
	b, _ = appendFields(append(append(b, protocol...), "\r\n"...), &r.Header)
	s.out = append(b, "\r\n"...)
	return s.Flush()
}

// frame decides how the client will know the end of the body (RFC 9112
// section 6.3).
func (s *stream) frame(r *message.Response) {
	s.left = r.Length
	s.mute = string(s.x.ex.Request.Method) == "HEAD" || r.Status == 304 || r.Status == 204
	switch {
	case s.mute || r.Length == 0:
		s.mode = noBody
	case r.Length > 0:
		s.mode = byLength
	case s.x.head.minor == 1:
		s.mode = byChunks
	default:
		s.mode = byClose
	}
}

// reusable reports whether the connection may take another request after this
// one, as far as it is known now.
func (s *stream) reusable() bool {
	x := s.x
	if !x.head.persistent() || x.conn.draining.Load() {
		return false
	}
	// A body that is still being sent is read to its end only if that is near.
	return x.ex.Request.Body == nil || x.body.rest.Load() <= lingerBytes
}

func (s *stream) head(r *message.Response) {
	b, dated := appendFields(appendStatus(s.buffer(), r.Status), &r.Header)
	if !dated {
		b = appendDate(b)
	}
	switch {
	case s.mode == byChunks:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Length >= 0 && r.Status != 204:
		b = appendLength(b, r.Length)
	}
	switch {
	case !s.keep:
		b = append(b, "Connection: close\r\n"...)
	case s.x.head.minor == 0:
		b = append(b, "Connection: keep-alive\r\n"...)
	}
	s.out = append(b, "\r\n"...)
}

// buffer is what is held back, with a buffer under it.
func (s *stream) buffer() []byte {
	if s.out == nil {
		s.out = take(mediumBuffer)
	}
	return s.out
}

// Write sends body bytes. A body longer than declared is an error, and aborts
// before the client can take the surplus for another response.
func (s *stream) Write(p []byte) (int, error) {
	switch {
	case s.state != headed:
		return 0, errState
	case s.mute || len(p) == 0:
		return len(p), nil
	case s.mode == byChunks:
		return s.writeChunk(p)
	case s.mode != byClose && int64(len(p)) > s.left:
		err := &message.Error{Side: message.UsherSide, Status: 502, Err: errLong}
		s.Abort(err)
		return 0, err
	}
	s.left -= int64(len(p))
	return s.put(p)
}

// leastCopied is how long the end of a body has to be for the kernel to gather
// the pieces of a response for less than a copy costs.
const leastCopied = 2 << 10

// put holds p back if it is small, and writes it together with what was held
// back if not, or if nothing follows.
func (s *stream) put(p []byte) (int, error) {
	last := s.mode == byLength && s.left == 0 && len(p) >= leastCopied && s.x.conn.bare != nil
	if len(s.out)+len(p) <= mediumBuffer && !last {
		s.out = append(s.buffer(), p...)
		return len(p), nil
	}
	return len(p), s.gather(p, nil)
}

// gather writes what was held back and two pieces, in one system call.
func (s *stream) gather(p, tail []byte) (err error) {
	switch rw := s.x.conn.rw.(type) {
	case *socket.Socket:
		_, err = rw.WriteBuffers(s.out, p, tail)
	case gatherer:
		_, err = rw.WriteBuffers(s.out, p, tail)
	default:
		_, err = rw.Write(slices.Concat(s.out, p, tail))
	}
	s.drop()
	return s.wrote(err)
}

// gatherer is a TLS connection that writes the records of many buffers at once.
type gatherer interface {
	WriteBuffers(...[]byte) (int64, error)
}

// splices reports whether a body of that length, of which nothing was written,
// can go through pipes.
func (s *stream) splices(n int64) bool {
	return s.state == headed && s.mode == byLength && s.left == n && n >= leastSpliced && s.x.conn.bare != nil
}

// begin writes the beginning of a body that goes on at once.
func (s *stream) begin(p []byte) error {
	s.left -= int64(len(p))
	s.begun = true
	_, err := s.x.conn.bare.WriteBegin(s.out, p)
	s.drop()
	return s.wrote(err)
}

// push is Flush also of what the kernel holds back.
func (s *stream) push() error {
	if s.begun {
		s.begun = false
		s.x.conn.bare.Push()
	}
	return s.Flush()
}

// writePipe writes what is in a pipe.
func (s *stream) writePipe(p *socket.Pipe) error {
	s.left -= int64(p.Held())
	bare := s.x.conn.bare
	if len(s.out) > 0 {
		_, err := bare.WriteBegin(s.out)
		if s.drop(); err != nil {
			return s.wrote(err)
		}
	}
	s.begun = false
	return s.wrote(bare.WritePipe(p))
}

// drop gives the buffer back: a stream that waits holds none.
func (s *stream) drop() {
	give(s.out)
	s.out = nil
}

// wrote turns a failed write into an error of the client's side.
func (s *stream) wrote(err error) error {
	if err == nil {
		return nil
	}
	s.keep = false
	var known *message.Error
	if errors.As(err, &known) {
		return known
	}
	return &message.Error{Side: message.ClientSide, Err: err}
}

// Flush writes what Write held back.
func (s *stream) Flush() error {
	if len(s.out) == 0 {
		return nil
	}
	_, err := s.x.conn.rw.Write(s.out)
	s.drop()
	return s.wrote(err)
}

// CloseWrite completes the response, or aborts it if it is shorter than
// declared.
func (s *stream) CloseWrite(trailer *message.Header) error {
	switch {
	case s.state != headed:
		return errState
	case s.mode == byLength && s.left > 0:
		err := &message.Error{Side: message.UsherSide, Status: 502, Err: errShort}
		s.Abort(err)
		return err
	case s.mode == byChunks:
		s.out = appendLastChunk(s.buffer(), trailer)
	}
	s.state = complete
	return s.Flush()
}

// Abort resets the connection, unless the response is complete.
func (s *stream) Abort(err error) {
	if s.state == complete || s.state == aborted || s.state == upgraded {
		return
	}
	s.state, s.err, s.keep = aborted, err, false
	s.drop()
	s.x.conn.wire.Abort()
}

// Swift reports whether the client has taken all that was written at once.
func (s *stream) Swift() bool { return s.x.conn.wire.Swift() }

// Watch watches the client's connection.
func (s *stream) Watch(gone func()) { s.x.conn.wire.Watch(gone) }

// Upgrade hands the connection over after a 101.
func (s *stream) Upgrade() (message.Duplex, error) {
	if s.state != switching {
		return nil, errState
	}
	s.state = upgraded
	return s.x.conn.duplex(&s.x.in), nil
}
