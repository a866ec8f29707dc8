package h2

import (
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// owner is what a stream belongs to: an exchange with a client, or a call to
// a VM. All are called with mux.mu held.
type owner interface {
	resetBy(http2.ErrCode)           // the peer has reset the stream
	blame(why error) error           // the error of a stream that the peer has spoilt
	tick(now time.Time) (after bool) // time passes; after asks for a call of after
	after()                          // called without the lock
}

// stream is one stream in both directions (RFC 9113 section 5). All fields
// but those of the watcher are guarded by mux.mu.
type stream struct {
	m     *mux
	id    uint32
	owner owner
	err   error // neither direction works any more

	// Receiving.
	recv      queue
	credit    int64 // what the peer may still send
	window    int64 // what credit and recv together are renewed to
	left      int64 // of the declared length, or message.Unknown
	ended     bool  // END_STREAM has come
	stopped   error // why nobody reads any more
	touched   bool  // Read was called
	readable  sync.Cond
	readSince time.Time // a Read waits since

	// Sending.
	send        int64
	finished    bool // END_STREAM is in the output
	flagAt      int  // where the flags of the last DATA are in the output
	flagBatch   uint32
	need        int // what reserve waits for: 0 for a header block
	writable    sync.Cond
	writeSince  time.Time // a write waits since
	urgency     uint8
	incremental bool
	ranked      bool // somebody said what the priority is

	watch sync.Mutex // held while gone runs
	gone  func()
}

// open readies a stream, new or used before. mu is held.
func (s *stream) open(m *mux, id uint32) {
	s.m, s.id = m, id
	s.err, s.stopped = nil, nil
	s.credit, s.window, s.left, s.ended, s.touched = initialWindow, initialWindow, message.Unknown, false, false
	if !m.acked {
		s.credit, s.window = defaultWindow, defaultWindow
		m.lent -= defaultWindow - initialWindow
	}
	s.send, s.finished, s.flagAt, s.flagBatch = m.initial, false, 0, m.batch-1
	s.urgency, s.incremental, s.ranked = fields.DefaultUrgency, false, false
	s.readSince, s.writeSince = time.Time{}, time.Time{}
	s.readable.L, s.writable.L = &m.mu, &m.mu
}

// close gives back what the stream has borrowed; again does nothing. mu is
// held and nobody reads any more.
func (s *stream) close() {
	s.recv.clear()
	s.m.lent += s.window - initialWindow
	s.window = initialWindow
}

// fail ends both directions. mu is held.
func (s *stream) fail(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	if !s.ended {
		s.recv.clear()
	}
	s.readable.Broadcast()
	s.writable.Broadcast()
}

// arrived takes the contents of a DATA frame that used size bytes of the
// window. An error is the peer's fault. mu is held.
func (s *stream) arrived(data []byte, size int64, end bool) (http2.ErrCode, error) {
	if s.ended {
		return http2.ErrCodeStreamClosed, fields.Malformed(errStreamDone)
	}
	// SETTINGS that come late may leave no credit at all; none is needed for an
	// empty frame (RFC 9113 section 6.9.2).
	if s.credit -= size; s.credit < 0 && size > 0 {
		return http2.ErrCodeFlowControl, fields.Malformed(errWindow)
	}
	if s.left >= 0 {
		if s.left -= int64(len(data)); s.left < 0 || end && s.left > 0 {
			return http2.ErrCodeProtocol, fields.Malformed(fields.ErrMismatch)
		}
	}
	s.recv.append(data)
	if end {
		s.end()
	}
	s.readable.Signal()
	return 0, nil
}

// end notes the peer's END_STREAM. mu is held.
func (s *stream) end() {
	s.ended = true
	s.readable.Signal()
	s.settle()
}

// settle removes a stream that has ended in both directions. mu is held.
func (s *stream) settle() {
	if s.ended && s.finished {
		s.m.remove(s)
	}
}

// read is Body.Read. EOF comes with the last bytes where it can.
func (s *stream) read(p []byte) (int, error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	s.touched = true
	for {
		if s.stopped != nil {
			return 0, s.stopped
		}
		n := s.recv.read(p)
		if s.ended && s.recv.size == 0 {
			return n, io.EOF
		}
		if n > 0 || s.err == nil && len(p) == 0 {
			s.renew()
			return n, nil
		}
		if s.err != nil {
			return 0, s.err
		}
		if s.renew() {
			continue // the lock was released
		}
		s.readSince = time.Now()
		s.readable.Wait()
		s.readSince = time.Time{}
	}
}

// renew lets the peer send more when half of the window was used, and a wider
// window if the connection can lend it: a body that is read at all gets
// streamWindow, and one that is read as fast as it comes up to widestWindow.
// It reports whether it released the lock. mu is held.
func (s *stream) renew() bool {
	m := s.m
	if s.ended || s.err != nil || s.left == 0 {
		return false
	}
	wide := s.window
	switch {
	case wide < streamWindow:
		wide = streamWindow
	case s.recv.size == 0 && s.credit < wide/2:
		wide = min(2*wide, widestWindow)
	}
	if s.left >= 0 {
		wide = min(wide, max(s.window, int64(s.recv.size)+s.left))
	}
	wide = min(wide, s.window+max(m.lent, 0))
	inc := wide - s.credit - int64(s.recv.size)
	if inc < wide/2 || s.left >= 0 && s.credit >= s.left {
		return false
	}
	m.lent -= wide - s.window
	s.window = wide
	s.credit += inc
	m.fr.WriteWindowUpdate(s.id, uint32(inc))
	return m.flush()
}

// prioritise applies a priority (RFC 9218 section 4).
func (s *stream) prioritise(value []byte) {
	s.urgency, s.incremental, s.ranked = fields.ParsePriority(value)
}

// stop is Body.Stop. What has arrived, and what still does within the window,
// is kept: resume may want it.
func (s *stream) stop(err error) {
	if err == nil {
		err = errFinished
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.stopped == nil {
		s.stopped = err
		s.readable.Broadcast()
	}
}

// resume takes stop back: what was not read yet is read next.
func (s *stream) resume() {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.stopped = nil
}

// buffered is how many bytes can be read without waiting.
func (s *stream) buffered() int {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.recv.size
}

// ready reports whether read would not wait.
func (s *stream) ready() bool {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.recv.size > 0 || s.ended || s.err != nil || s.stopped != nil
}

// Watch implements message.Stream.
func (s *stream) Watch(gone func()) {
	s.watch.Lock()
	s.gone = gone
	s.watch.Unlock()
	if gone == nil {
		return
	}
	s.m.mu.Lock()
	failed := s.err != nil
	s.m.mu.Unlock()
	if failed {
		go s.tellGone()
	}
}

// tellGone calls the watcher, if there is one. The stream has failed, and so
// is never used for another exchange.
func (s *stream) tellGone() {
	s.watch.Lock()
	defer s.watch.Unlock()
	if gone := s.gone; gone != nil {
		s.gone = nil
		gone()
	}
}
