package socket

import (
	"time"

	"golang.org/x/sys/unix"
)

// parking is what a parked Socket has instead of a goroutine.
type parking struct {
	s     *Socket
	then  func(readable bool)
	timer Timer
}

// Expire ends the parking at its deadline.
func (p *parking) Expire() {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	if p.s.parked == p {
		p.s.unpark(false)
	}
}

// Park gives the Socket to l until it is readable (bytes, the peer's end or an
// error), until the deadline, or until Close, the end of l, or a read deadline
// in the past. Then f runs once, on a goroutine of its own; readable is true
// only in the first case. A zero deadline is none, others are met at most a
// second late. Nobody may read or write a parked Socket, and Watch is ended.
// When Park fails, f does not run and the Socket is as it was; it may need one
// more descriptor for a moment.
func (s *Socket) Park(l *Loop, deadline time.Time, f func(readable bool)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.claim(); err != nil {
		return err
	}
	defer s.moved()
	if err := s.leavePoll(); err != nil {
		return err
	}
	s.parked = &parking{s: s, then: f}
	if len(s.ahead) > 0 || s.state.Load()&readPast != 0 {
		s.unpark(len(s.ahead) > 0)
		return nil
	}
	if err := s.joinLoop(l, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLONESHOT); err != nil {
		s.parked = nil
		return err
	}
	s.watching = false
	if !deadline.IsZero() {
		l.Set(&s.parked.timer, deadline, s.parked)
	}
	return nil
}

// unpark starts the goroutine of a parked Socket. The caller holds mu.
func (s *Socket) unpark(readable bool) {
	if p := s.parked; p != nil {
		s.parked = nil
		if s.loop != nil {
			s.loop.Cancel(&p.timer)
		}
		go p.then(readable)
	}
}

// joinLoop arms the Socket in l for events. The caller holds mu, and knows
// that the Socket is not closed.
func (s *Socket) joinLoop(l *Loop, events uint32) error {
	if s.loop != l {
		s.leaveLoop()
		s.loop = l
	}
	if !s.slot.free() {
		return l.Modify(s.fd, s.slot, events)
	}
	var err error
	s.slot, err = l.Add(s.fd, events, (*inLoop)(s))
	return err
}

// leaveLoop ends the registration with the loop. The caller holds mu.
func (s *Socket) leaveLoop() {
	if !s.slot.free() {
		s.loop.Remove(s.fd, s.slot)
		s.slot, s.watching = Slot{}, false
	}
}
