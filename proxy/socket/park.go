package socket

import (
	"math"
	"time"
)

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
	s.owner = owner
	end := int64(never)
	if limit > 0 {
		end = s.loop.tickAfter(limit)
	}
	if at := s.in.deadline.Load(); at != 0 {
		end = min(end, s.loop.tickAt(epoch.Add(time.Duration(at))))
	}
	s.parkFor(end)
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

// never is the tick at which no parking ends: 34 years from the start of the
// loop.
const never = math.MaxInt32

// parkFor sets the tick that ends a parking. The loop is not told of a later one
// than before: when it reminds us too early, it is told again. Once it has
// nothing to remind us of, until is 0. The caller holds mu.
func (s *Socket) parkFor(tick int64) {
	at := int32(min(max(tick, 1), never))
	switch {
	case s.until == 0 && at == never:
		return
	case s.until == 0 || at < s.until:
		s.loop.remind(s.slot, at)
	}
	s.until = at
}

// parkUntil shortens the parking to a tick of the loop. The caller holds mu.
func (s *Socket) parkUntil(tick int64) {
	if s.until == 0 || tick < int64(s.until) {
		s.parkFor(tick)
	}
}

// unpark gives a parked Socket back. The caller holds mu.
func (s *Socket) unpark(readable bool) {
	if s.state.Load()&parked == 0 {
		return
	}
	s.state.And(^uint64(parked))
	owner := s.owner
	s.owner = nil
	s.loop.crew.run(owner, readable)
}

// reminded ends the parking if its limit has passed.
func (h *inLoop) reminded() {
	s := (*Socket)(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.until
	s.until = 0
	switch {
	case s.state.Load()&(parked|closed) != parked || until == 0:
	case s.loop.Ticks() >= int64(until):
		s.unpark(false)
	default:
		s.parkFor(int64(until))
	}
}
