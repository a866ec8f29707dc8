package h2

// maxOut is how many bytes of frames wait for a Flush, and how many to be
// written before streams wait with theirs. One header block or frame may
// exceed it.
const maxOut = 48 << 10

// maxData is the most that a DATA frame carries: with its header it fills a TLS
// record.
const maxData = maxFrame - frameHeader

// fairly is how often the stream that has waited longest is served whatever
// the priorities: nobody starves.
const fairly = 8

// room reports whether s could send now. mu is held.
func (m *mux) room(s *stream) bool {
	return len(m.out.b) < maxOut && (s.need == 0 || m.send > 0)
}

// reserve waits until it is the turn of s to send up to n bytes of DATA, or,
// with n zero, a header block, and returns how many it may. mu is held, but
// may have been released.
func (s *stream) reserve(n int) (int, error) {
	m := s.m
	s.need = n
	for {
		mine := m.granted == s
		if mine {
			m.granted = nil
		}
		if s.err != nil || s.finished {
			m.forget(s)
			m.grant()
			return 0, s.failure()
		}
		switch {
		case n > 0 && s.send <= 0:
			m.forget(s)
			m.grant()
		case m.room(s) && (mine || m.granted == nil && !m.preferred(s)):
			m.forget(s)
			s.writeSince = zeroTime
			return min(n, maxData, int(max(s.send, 0)), int(max(m.send, 0))), nil
		default:
			m.queue(s)
			m.grant()
			if m.granted == s {
				continue
			}
		}
		if m.flush() {
			continue // there is room now, or the peer sees that its window is used up
		}
		s.wait()
	}
}

// failure is why s cannot send.
func (s *stream) failure() error {
	if s.err != nil {
		return s.err
	}
	return errState
}

// queue makes s one of those that wait for the output or the connection's
// window.
func (m *mux) queue(s *stream) {
	for _, w := range m.waiting {
		if w == s {
			return
		}
	}
	m.waiting = append(m.waiting, s)
}

func (m *mux) forget(s *stream) {
	for i, w := range m.waiting {
		if w == s {
			m.waiting = append(m.waiting[:i], m.waiting[i+1:]...)
			return
		}
	}
}

// preferred reports whether somebody who waits goes before s.
func (m *mux) preferred(s *stream) bool {
	for _, w := range m.waiting {
		if w != s && !s.before(w) {
			return true
		}
	}
	return false
}

// before reports whether s is served before w, who has waited longer. Streams
// of equal urgency take turns, unless both want to be served one after the
// other (RFC 9218 section 10).
func (s *stream) before(w *stream) bool {
	if s.urgency != w.urgency {
		return s.urgency < w.urgency
	}
	return s.sequential() && w.sequential() && s.id < w.id
}

// sequential reports that the client asked for one response after the other.
// A client that says nothing gets turns, which is the floor.
func (s *stream) sequential() bool { return s.ranked && !s.incremental }

// grant wakes the stream whose turn it is, if there is room. mu is held.
func (m *mux) grant() {
	if m.granted != nil || len(m.waiting) == 0 {
		return
	}
	var best *stream
	m.grants++
	for _, w := range m.waiting {
		if !m.room(w) {
			continue
		}
		if best == nil || w.before(best) {
			best = w
		}
		if m.grants%fairly == 0 {
			break
		}
	}
	if w := m.writer; best != nil && w != nil && m.grants%fairly != 0 && w.before(best) {
		return // it is about to go on
	}
	if best != nil {
		m.granted = best
		best.writable.Signal()
	}
}
