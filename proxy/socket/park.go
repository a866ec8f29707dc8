package socket

import "time"

// parking is what a parked Socket has instead of a goroutine. Its timer is not
// moved by every Park: when it fires early it is set again.
type parking struct {
	then  func(readable bool)
	timer Timer
	set   int64 // tick of the timer; 0 is none
	until int64 // tick of the limit; 0 is none
}

// Park gives the Socket to its Loop until it is readable (bytes, the peer's end
// or an error), until limit has passed, or until Close, the end of the loop, or
// the read deadline. Then f runs once, on another goroutine; readable is true
// only in the first case, and may then be a false alarm. A limit of 0 is none,
// others are met at most a second late. It takes no system call. Nobody may
// read or write a parked Socket. When Park fails, f does not run.
func (s *Socket) Park(limit time.Duration, f func(readable bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state := s.state.Load(); state&closed == 0 && (state&users != 1 || state&parked != 0) {
		return errBusy
	}
	if err := s.joinLocked(); err != nil {
		return err
	}
	s.in.disarm()
	s.out.disarm()
	s.parking.then, s.parking.until = f, 0
	if limit > 0 {
		s.parkUntil(s.loop.tickAfter(limit))
	}
	if at := s.in.deadline.Load(); at != 0 {
		s.parkUntil(s.loop.tickAt(epoch.Add(time.Duration(at))))
	}
	// An event comes before this and leaves fresh, or after it and sees parked.
	state := s.state.Or(parked) | parked
	switch {
	case len(s.ahead) > 0:
		s.unpark(true)
	case state&readPast != 0:
		s.unpark(false)
	case s.in.news.Load() == fresh:
		s.unpark(true)
	}
	return nil
}

// parkUntil shortens the parking to a tick of the loop. The caller holds mu.
func (s *Socket) parkUntil(tick int64) {
	p := &s.parking
	if p.until == 0 || tick < p.until {
		p.until = tick
	}
	if p.set == 0 || p.set > p.until {
		p.set = p.until
		s.loop.setTick(&p.timer, p.set, (*parkTimer)(s))
	}
}

// unpark gives a parked Socket back. The caller holds mu.
func (s *Socket) unpark(readable bool) {
	if s.state.Load()&parked == 0 {
		return
	}
	s.state.And(^uint64(parked))
	f := s.parking.then
	s.parking.then = nil
	s.loop.crew.run(f, readable)
}

// parkTimer is a Socket as the wheel sees it.
type parkTimer Socket

// Expire ends the parking if its limit has passed.
func (t *parkTimer) Expire() {
	s := (*Socket)(t)
	s.mu.Lock()
	defer s.mu.Unlock()
	p := &s.parking
	p.set = 0
	switch {
	case s.state.Load()&(parked|closed) != parked || p.until == 0:
	case s.loop.Ticks() >= p.until:
		s.unpark(false)
	default:
		s.parkUntil(p.until)
	}
}
