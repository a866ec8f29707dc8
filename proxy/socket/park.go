package socket

import (
	"math"
	"time"
)

// parking is what a parked Socket has instead of a goroutine. Its timer is not
// moved by every Park: when it fires early it is set again.
type parking struct {
	owner Resumer
	timer Timer
	set   int32 // tick of the timer; 0 is none
	until int32 // tick of the limit; 0 is none
}

// Resumer owns a Socket that is parked.
type Resumer interface {
	// Resume is called once, on a goroutine of its own, when the parking ends.
	// readable is false when a limit or the end of the Socket or its Loop was
	// the reason.
	Resume(readable bool)
}

// Park gives the Socket to its Loop until it is readable (bytes, the peer's end
// or an error), until limit has passed, or until Close, the end of the loop, or
// the read deadline. Then owner is resumed; readable is true only in the first
// case, and may then be a false alarm. A limit of 0 is none,
// others are met at most a second late. It takes no system call. Nobody may
// read or write a parked Socket. When Park fails, owner is not resumed.
func (s *Socket) Park(limit time.Duration, owner Resumer) error {
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
	s.parking.owner, s.parking.until = owner, 0
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
	at := int32(min(tick, math.MaxInt32)) // 34 years from the start of the loop
	if p.until == 0 || at < p.until {
		p.until = at
	}
	if p.set == 0 || p.set > p.until {
		p.set = p.until
		s.loop.setTick(&p.timer, int64(p.set), (*parkTimer)(s))
	}
}

// unpark gives a parked Socket back. The caller holds mu.
func (s *Socket) unpark(readable bool) {
	if s.state.Load()&parked == 0 {
		return
	}
	s.state.And(^uint64(parked))
	owner := s.parking.owner
	s.parking.owner = nil
	s.loop.crew.run(owner, readable)
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
	case s.loop.Ticks() >= int64(p.until):
		s.unpark(false)
	default:
		s.parkUntil(int64(p.until))
	}
}
