package socket

import "time"

// SetReadDeadline sets the absolute time after which Read does not wait any
// more; zero is none. A time in the past fails Read and WaitReadable at once,
// also one that waits, and ends Park.
func (s *Socket) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readDeadline = t
	if s.setPast(readPast, t) {
		s.unpark(false)
	}
	if p := s.poll.Load(); p != nil && p.in.waiting {
		p.in.apply()
	}
	return nil
}

// SetWriteDeadline sets the absolute time after which Write does not wait any
// more, whatever the write timeout.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeDeadline = t
	s.setPast(writePast, t)
	if p := s.poll.Load(); p != nil && p.out.waiting {
		p.out.apply()
	}
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (s *Socket) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetWriteTimeout sets how long a Write may go without any progress; 0 is for
// ever. A Write that waits already goes by the one before until it makes some.
func (s *Socket) SetWriteTimeout(d time.Duration) { s.writeTimeout.Store(int64(d)) }

// writeLimit is when a Write that makes no progress from now on fails; zero is
// never.
func (s *Socket) writeLimit(now time.Time) time.Time {
	d := time.Duration(s.writeTimeout.Load())
	if d <= 0 {
		return time.Time{}
	}
	return now.Add(d)
}

// setPast keeps the bit that tells enter of a deadline in the past.
func (s *Socket) setPast(bit uint64, t time.Time) bool {
	if !t.IsZero() && !t.After(time.Now()) {
		s.state.Or(bit)
		return true
	}
	s.state.And(^bit)
	return false
}
