package h2

import (
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/budget"
)

// What we announce in SETTINGS, and the sizes that follow from it.
const (
	maxStreams    = 100
	maxFrame      = 16 << 10 // of a frame either way, the smallest that a peer may ask for
	headerTable   = 4096
	initialWindow = 32 << 10 // of a stream
	streamWindow  = 256 << 10
	widestWindow  = 1 << 20
	lentWindow    = 2 << 20 // beyond initialWindow, of all streams together
	connWindow    = 1 << 20 // of the connection
	defaultWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
	maxPadding    = 256
)

// side is what the two ends of a connection do differently. All but headers
// are called with mux.mu held.
type side interface {
	headers(*block) error         // a complete header block; by the reader, without the lock
	setting(http2.Setting) error  // a setting of the peer that mux has no use for
	applied()                     // all settings of a frame were
	goneAway(last uint32)         // GOAWAY
	idle(id uint32) bool          // the peer may not use this stream yet
	pinged()                      // our PING was answered
	removed(*stream)              // the stream is not in the map any more
	reprioritised(uint32, string) // PRIORITY_UPDATE of an idle or closed stream
	tick(time.Time) time.Duration // time passes; how long until the next call, 0 for never
}

// mux is one connection with its streams, whichever side we are.
type mux struct {
	rw    io.ReadWriter
	wire  wire
	side  side
	fr    *http2.Framer // reading owned by the reader, writing by mu; writes to out
	in    input         // owned by the reader
	block block         // owned by the reader
	tell  []*stream     // that have failed; owned by the reader
	busy  atomic.Int32  // open streams, for the reader

	blockSince atomic.Int64 // when an unfinished header block began, Unix nanoseconds

	mu       sync.Mutex
	streams  map[uint32]*stream
	reset    []uint32 // ring of streams that we reset last: frames for them may be under way
	resets   int      // written to it
	credit   int64    // what the peer may send on the connection
	lent     int64    // of lentWindow
	send     int64    // what we may send on the connection
	initial  int64    // the peer's initial window
	budget   budget.Budget
	lenient  bool  // the peer is a VM: it may reset what it likes
	settled  bool  // the peer's first SETTINGS have arrived
	acked    bool  // the peer has applied ours
	dead     error // nothing can be read or written any more
	stopping error // why the reader shall end; set with its deadline

	out      output
	batch    uint32 // counts the writes: a frame can be changed while its batch is not written
	flushing bool
	yielding bool      // somebody is about to flush
	drained  sync.Cond // flushing became false
	enc      encoder
	lower    []byte   // scratch of fieldName
	scratch  [32]byte // of a value that is made
	waiting  []*stream
	granted  *stream
	writer   *stream // writes for everybody and has more to send
	grants   uint

	timer *time.Timer
	armed time.Time // when the timer fires; zero for never
	owned sync.WaitGroup
}

func (m *mux) init(rw io.ReadWriter, w wire, side side) {
	m.rw, m.wire, m.side = rw, w, side
	m.in.src = rw
	m.fr = http2.NewFramer(&m.out, &m.in)
	m.fr.SetMaxReadFrameSize(maxFrame)
	m.enc.init()
	m.streams = make(map[uint32]*stream)
	m.credit, m.send, m.initial, m.lent = defaultWindow, defaultWindow, defaultWindow, lentWindow
	m.drained.L = &m.mu
	m.block.init()
}

// read handles frames until the connection ends.
func (m *mux) read() error {
	for {
		if m.busy.Load() == 0 {
			m.in.rest()
			m.block.rest()
		}
		h, err := m.fr.ReadFrameHeader()
		if err == nil {
			err = m.frame(h)
			m.tellAll()
		}
		if err != nil {
			return m.why(err)
		}
	}
}

// tellAll tells the watchers of the streams that a frame has ended.
func (m *mux) tellAll() {
	for _, s := range m.tell {
		s.tellGone()
	}
	clear(m.tell)
	m.tell = m.tell[:0]
}

// why turns an error of the reader into the reason of the connection's end.
func (m *mux) why(err error) error {
	var code http2.ConnectionError
	switch {
	case errors.As(err, &code):
		return connError{http2.ErrCode(code), errOrder}
	case errors.Is(err, http2.ErrFrameTooLarge):
		return connError{http2.ErrCodeFrameSize, errFrameSize}
	case errors.Is(err, os.ErrDeadlineExceeded):
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.stopping != nil {
			return m.stopping
		}
	}
	return err
}

// errDone is the reason of an orderly end.
var errDone = errors.New("all streams have ended")

// stop makes the reader end with err. mu is held.
func (m *mux) stop(err error) {
	if m.stopping == nil {
		m.stopping = err
		m.wire.SetReadDeadline(past())
	}
}

// begin writes what comes first: SETTINGS and a larger window.
func (m *mux) begin(settings ...http2.Setting) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fr.WriteSettings(settings...)
	m.fr.WriteWindowUpdate(0, connWindow-defaultWindow)
	m.credit = connWindow
	m.flush()
}

// end takes everything down after the reader has ended: every stream fails
// with err, the peer gets a GOAWAY unless it is gone, the socket is closed.
func (m *mux) end(err error, fail func(*stream) error) {
	m.mu.Lock()
	if m.dead == nil {
		m.dead = err
	}
	if m.timer != nil {
		m.timer.Stop()
	}
	failed := make([]*stream, 0, len(m.streams))
	for _, s := range m.streams {
		s.fail(fail(s))
		failed = append(failed, s)
	}
	for _, s := range m.waiting { // one may wait to be opened
		s.fail(fail(s))
	}
	clear(m.streams)
	m.busy.Store(0)
	m.mu.Unlock()
	for _, s := range failed {
		s.tellGone()
	}
}

// farewell writes what is left and closes. Streams have failed already.
func (m *mux) farewell(last uint32, err error) {
	m.wire.SetWriteDeadline(time.Now().Add(lingerTime))
	m.mu.Lock()
	for m.flushing {
		m.drained.Wait()
	}
	gone := m.dead != nil && !speaks(m.dead)
	if !gone {
		var c connError
		code := http2.ErrCodeNo
		if errors.As(err, &c) {
			code = c.code
		}
		m.fr.WriteGoAway(last, code, nil)
	}
	b := m.out.b
	m.out.b = nil
	m.mu.Unlock()
	if gone {
		m.wire.Close()
	} else {
		m.rw.Write(b)
		closeNotify(m.rw)
		m.wire.CloseLinger(lingerBytes, lingerTime)
	}
	give(b)
	m.in.release()
	m.block.rest()
}

// speaks reports whether the peer may still listen after a connection ended
// with err.
func speaks(err error) bool {
	var c connError
	return errors.As(err, &c) || errors.Is(err, errDone)
}

// add makes s a stream of the connection. mu is held.
func (m *mux) add(s *stream) {
	m.streams[s.id] = s
	m.busy.Add(1)
}

// remove forgets a stream that has ended in both directions. mu is held.
func (m *mux) remove(s *stream) {
	if m.streams[s.id] == s {
		delete(m.streams, s.id)
		m.busy.Add(-1)
		m.side.removed(s)
	}
}

// abandon ends a stream from our side. mu is held; the caller flushes.
func (m *mux) abandon(s *stream, code http2.ErrCode, why error) {
	if s.err != nil || m.streams[s.id] != s {
		return
	}
	m.fr.WriteRSTStream(s.id, code)
	m.note(s.id)
	s.fail(why)
	m.remove(s)
}

// strays is how many streams that we reset are remembered.
const strays = 2 * maxStreams

// note remembers that frames for a stream may come although it has ended.
func (m *mux) note(id uint32) {
	if m.reset == nil {
		m.reset = make([]uint32, strays)
	}
	m.reset[m.resets%strays] = id
	m.resets++
}

// stray judges a frame for a stream that is not open. mu is held.
func (m *mux) stray(id uint32) error {
	if m.side.idle(id) {
		return protocolError(errStreamID)
	}
	if m.lenient {
		return nil
	}
	for _, r := range m.reset {
		if r == id {
			return m.noise()
		}
	}
	return connError{http2.ErrCodeStreamClosed, errStreamDone}
}

// induce resets a stream for a fault of the peer's, which counts like a reset
// by the peer. mu is held, by the reader.
func (m *mux) induce(id uint32, code http2.ErrCode, why error) error {
	if s := m.streams[id]; s != nil {
		m.tell = append(m.tell, s)
		m.abandon(s, code, s.owner.blame(why))
	} else {
		m.fr.WriteRSTStream(id, code)
		m.note(id)
	}
	m.kick()
	return m.countReset()
}

func (m *mux) countReset() error {
	if !m.budget.Reset(time.Now()) && !m.lenient {
		return calm(errResets)
	}
	return nil
}

// noise counts a frame that brings nothing. mu is held.
func (m *mux) noise() error {
	if !m.budget.Noisy(1, time.Now()) {
		return calm(errNoise)
	}
	return nil
}

// tooManyResets counts a reset that a timer made. mu is held.
func (m *mux) tooManyResets() {
	if err := m.countReset(); err != nil {
		m.stop(err)
	}
}
