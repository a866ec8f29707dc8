package h2

import (
	"runtime"
	"strconv"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// flushRounds is how often one goroutine writes for the others before it goes
// back to its own work.
const flushRounds = 4

// smallWindow is how little of a body a frame may carry because of the peer's
// window without being trouble.
const smallWindow = 1 << 10

var zeroTime time.Time

// wait waits for writable and notes since when.
func (s *stream) wait() {
	if s.writeSince.IsZero() {
		s.writeSince = time.Now()
	}
	s.writable.Wait()
}

// flush writes what is in the output, unless somebody is at it already, who
// then takes it along. It reports whether it released the lock. mu is held.
func (m *mux) flush() (released bool) {
	if m.flushing || len(m.out.b) == 0 || m.dead != nil {
		return false
	}
	if len(m.out.b) < maxOut && m.busy.Load() > 1 {
		// Others are about to add frames: let them, it saves system calls. Who
		// fills the output writes it, while it is in the processor's cache.
		if m.yielding {
			return false
		}
		m.yielding = true
		m.mu.Unlock()
		runtime.Gosched()
		m.mu.Lock()
		m.yielding = false
		if m.flushing || m.dead != nil {
			return true
		}
	}
	m.flushing = true
	m.writeOut(flushRounds)
	return true
}

// kick is flush for a goroutine that must not wait: the reader's and timers.
func (m *mux) kick() {
	if m.flushing || m.yielding || len(m.out.b) == 0 || m.dead != nil {
		return
	}
	m.flushing = true
	m.handOver()
}

// handOver lets a goroutine of its own go on with writing.
func (m *mux) handOver() {
	m.owned.Add(1)
	go func() {
		defer m.owned.Done()
		m.mu.Lock()
		defer m.mu.Unlock()
		m.writeOut(1 << 30)
	}()
}

// writeOut writes until nothing is left, at most so many times. flushing is
// set and mu held.
func (m *mux) writeOut(rounds int) {
	for ; len(m.out.b) > 0 && m.dead == nil; rounds-- {
		if rounds == 0 {
			m.handOver()
			return
		}
		b := m.out.b
		m.out.b, m.out.usual = nil, len(b)
		m.batch++
		m.grant()
		m.mu.Unlock()
		_, err := m.rw.Write(b)
		m.mu.Lock()
		give(b)
		if err != nil {
			m.stop(err)
			m.dead = err
		}
	}
	m.flushing = false
	m.drained.Broadcast()
}

// startFrame appends a frame header whose length is not known yet.
func (s *stream) startFrame(kind http2.FrameType, flags http2.Flags) (at int) {
	o := &s.m.out
	o.grow(frameHeader)
	at = len(o.b)
	id := s.id
	o.b = append(o.b, 0, 0, 0, byte(kind), byte(flags), byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
	return at
}

// endFrame fills the length in.
func (m *mux) endFrame(at int) {
	n := len(m.out.b) - at - frameHeader
	m.out.b[at], m.out.b[at+1], m.out.b[at+2] = byte(n>>16), byte(n>>8), byte(n)
}

// sendData sends p as DATA, as the windows and the others allow.
func (s *stream) sendData(p []byte) (done int, err error) {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(p) > 0 {
		n, err := s.reserve(len(p))
		if err != nil {
			return done, err
		}
		at := s.startFrame(http2.FrameData, 0)
		s.flagAt, s.flagBatch = at+4, m.batch
		m.out.grow(n)
		m.out.b = append(m.out.b, p[:n]...)
		m.endFrame(at)
		s.send -= int64(n)
		m.send -= int64(n)
		if n == len(p) || n >= smallWindow {
			m.budget.Explain(2 + n>>10)
		}
		p, done = p[n:], done+n
		if len(m.out.b) >= maxOut && !m.flushing {
			if len(p) > 0 {
				m.writer = s
			}
			m.flush()
			if m.writer == s { // not another one's, who wrote while s yielded
				m.writer = nil
			}
		}
	}
	m.grant() // not before: with more to send, s competes for the next turn
	return done, nil
}

// finish ends our direction in DATA: with the flag of the last one, if that is
// not written yet, or with an empty one. Never in HEADERS that are not written
// yet: those that can end a stream say so from the start, and to gRPC the
// difference matters. A server of it hears the end of a request only in DATA,
// which its protocol asks for. mu is held.
func (s *stream) finish() {
	m := s.m
	if s.flagBatch == m.batch && s.flagAt < len(m.out.b) {
		m.out.b[s.flagAt] |= byte(http2.FlagDataEndStream)
	} else {
		m.endFrame(s.startFrame(http2.FrameData, http2.FlagDataEndStream))
	}
	s.sentEnd()
}

// sentEnd notes that END_STREAM is in the output. mu is held.
func (s *stream) sentEnd() {
	s.finished = true
	s.settle()
}

// startBlock begins a header block, with END_STREAM if nothing follows it.
func (s *stream) startBlock(end bool) (at int) {
	flags := http2.Flags(0)
	if end {
		flags = http2.FlagHeadersEndStream
	}
	at = s.startFrame(http2.FrameHeaders, flags)
	s.m.out.grow(maxPrefix)
	s.m.out.b = s.m.enc.begin(s.m.out.b)
	return at
}

// endBlock completes a header block that began with startBlock, splitting it
// if it is larger than a frame may be.
func (s *stream) endBlock(at int) {
	m := s.m
	size := len(m.out.b) - at - frameHeader
	if size <= maxFrame {
		m.out.b[at+4] |= byte(http2.FlagHeadersEndHeaders)
		m.endFrame(at)
		return
	}
	whole := append(take(size), m.out.b[at+frameHeader:]...)
	m.out.b = m.out.b[:at+frameHeader+maxFrame]
	m.endFrame(at)
	for rest := whole[maxFrame:]; len(rest) > 0; {
		n := min(len(rest), maxFrame)
		flags := http2.Flags(0)
		if n == len(rest) {
			flags = http2.FlagContinuationEndHeaders
		}
		at := s.startFrame(http2.FrameContinuation, flags)
		m.out.Write(rest[:n])
		m.endFrame(at)
		rest = rest[n:]
	}
	give(whole)
}

// number encodes one field that is a decimal number.
func (m *mux) number(name string, n int64) {
	m.field(name, strconv.AppendInt(m.scratch[:0], n, 10))
}

// field encodes one field. Neither slice is kept.
func (m *mux) field(name string, value []byte) {
	m.out.grow(len(name) + len(value) + maxPrefix)
	m.out.b = m.enc.field(m.out.b, name, view(value))
}

// fields encodes a header, with names in lower case, but for the fields that
// belong to one connection and those that skip names.
func (m *mux) fields(h *message.Header, skip func(*message.Field) bool) {
	all := h.All()
	for i := range all {
		f := &all[i]
		if f.ID.HopByHop() || f.ID == message.ContentLength || skip != nil && skip(f) {
			continue
		}
		m.field(m.fieldName(f.Name), f.Value)
	}
}

// fieldName is name in lower case, valid until the next call.
func (m *mux) fieldName(name []byte) string {
	for i, c := range name {
		if c-'A' < 26 {
			m.lower = append(m.lower[:0], name...)
			for ; i < len(name); i++ {
				if c := name[i]; c-'A' < 26 {
					m.lower[i] = c | 0x20
				}
			}
			return view(m.lower)
		}
	}
	return view(name)
}
