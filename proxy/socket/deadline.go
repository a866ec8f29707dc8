package socket

import "time"

// SetReadDeadline sets the absolute time after which Read does not wait any
// more; zero is none. A time in the past fails Read and WaitReadable at once,
// also one that waits, and ends Park, which one in the future may shorten.
func (s *Socket) SetReadDeadline(t time.Time) error {
	if t.IsZero() && s.in.deadline.Load() == 0 && s.state.Load()&readPast == 0 {
		return nil // as it is
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set(&s.in, readPast, t) {
		s.unpark(false)
	} else if s.state.Load()&parked != 0 && !t.IsZero() {
		s.parkUntil(s.loop.tickAt(t))
	}
	return nil
}

// ReadUntil is SetReadDeadline for who reads, and for a time that has not passed:
// it neither looks at the clock nor excludes others. A Read that has to wait
// sees that it has passed all the same.
func (s *Socket) ReadUntil(t time.Time) {
	s.in.deadline.Store(moment(t))
	if s.state.Load()&readPast != 0 {
		s.state.And(^uint64(readPast))
	}
}

// SetWriteDeadline sets the absolute time after which Write does not wait any
// more, whatever the write timeout.
func (s *Socket) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(&s.out.direction, writePast, t)
	return nil
}

// SetDeadline is SetReadDeadline and SetWriteDeadline.
func (s *Socket) SetDeadline(t time.Time) error {
	s.SetReadDeadline(t)
	return s.SetWriteDeadline(t)
}

// SetWriteTimeout sets how long a Write may go without any progress; 0 is for
// ever. A Write that waits already goes by the one before until it makes some.
func (s *Socket) SetWriteTimeout(d time.Duration) {
	if s.out.timeout.Load() != int64(d) {
		s.out.timeout.Store(int64(d))
	}
}

// set gives a direction its deadline and reports whether that has passed. The
// caller holds mu.
func (s *Socket) set(d *direction, past uint64, t time.Time) bool {
	at := moment(t)
	d.deadline.Store(at)
	if at != 0 && at <= now() {
		s.state.Or(past)
		d.tell()
		return true
	}
	if s.state.Load()&past != 0 {
		s.state.And(^past)
	}
	if at == 0 || d.news.Load() != awaited {
		return false
	}
	if armed := d.bed.armed.Load(); (armed == 0 || at < armed) && !s.arm(d) {
		d.lapse()
	}
	return false
}
