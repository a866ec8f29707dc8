package datagram

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

const (
	heldDatagrams = 16       // of a session whose VM is being chosen
	heldBytes     = 32 << 10 // likewise, the first datagram not counted
)

// Session is one client's datagrams to one of our addresses. What is not fixed
// is guarded by the mutex of the relay.
type Session struct {
	listener   *Listener
	client     netip.AddrPort
	local      netip.AddrPort
	key        key
	name       name    // client, for the kernel
	control    control // local, for the kernel
	controlLen int     // 0 where the kernel knows by itself
	place      place

	cancel context.CancelFunc // of opening
	held   [][]byte           // what came before the VM was known
	size   int                // of held

	target   Target
	fd       int // towards the VM; -1 before it was chosen
	slot     socket.Slot
	timer    socket.Timer
	idle     time.Duration
	last     int64 // tick of the last datagram
	prefixed bool  // the header was sent
	answered bool  // the VM has sent something
	ended    bool
	result   Result
}

// Client is who sends.
func (s *Session) Client() netip.AddrPort { return s.client }

// Local is the address of ours that the client sends to.
func (s *Session) Local() netip.AddrPort { return s.local }

// Abort ends the session. It may be called at any time, also after the end.
func (s *Session) Abort(reason string) {
	s.listener.relay.mu.Lock()
	defer s.listener.relay.mu.Unlock()
	s.end(message.UsherSide, reason)
}

// open has the VM chosen and sends what was held.
func (s *Session) open(ctx context.Context, opener Opener) {
	defer s.cancel()
	target, err := opener.Open(ctx, s)
	chosen, fd := err == nil, -1
	if chosen {
		fd, err = dial(&target)
	}
	r := s.listener.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opening--
	defer r.lookIdle()
	if chosen {
		s.target, s.idle = target, target.Idle
	}
	switch {
	case s.ended: // while it was being opened
		if fd >= 0 {
			unix.Close(fd)
		}
		if chosen {
			s.tell()
		}
	case err != nil:
		s.fail(err)
	default:
		s.start(fd)
	}
}

// start is called with the mutex of the relay held, as are all methods below.
func (s *Session) start(fd int) {
	r := s.listener.relay
	slot, err := r.loop.Add(fd, unix.EPOLLIN, s)
	if err != nil {
		unix.Close(fd)
		s.end(message.UsherSide, err.Error())
		return
	}
	s.fd, s.slot = fd, slot
	if r.draining {
		s.hurry()
	} else {
		s.await(s.idle)
	}
	s.touch()
	held := s.held
	s.held, s.size = nil, 0
	for _, payload := range held {
		if !s.ended {
			s.take(payload)
		}
	}
	s.flush()
}

// await sets the timer.
func (s *Session) await(d time.Duration) {
	if s.idle > 0 {
		s.listener.relay.loop.Set(&s.timer, time.Now().Add(d+socket.Tick), s)
	}
}

// hurry shortens the idle time of a session while usher drains.
func (s *Session) hurry() {
	if s.fd < 0 || s.ended {
		return
	}
	r, timeless := s.listener.relay, s.idle == 0 // without timers the clock stands still
	if timeless || s.idle > r.quiet {
		s.idle = r.quiet
	}
	s.await(s.idle)
	if timeless {
		s.last = r.loop.Ticks()
	}
}

// touch notes that something came.
func (s *Session) touch() {
	s.last = s.listener.relay.loop.Ticks()
	s.listener.relay.used(s)
}

// Expire looks whether the session was idle for too long.
func (s *Session) Expire() {
	r := s.listener.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ended {
		return
	}
	silent := time.Duration(r.loop.Ticks()-s.last) * socket.Tick
	if silent >= s.idle+socket.Tick {
		s.end(message.UsherSide, "idle")
		return
	}
	s.await(s.idle - silent)
}

// take puts a datagram of the client's into the outbox, or holds it.
func (s *Session) take(payload []byte) {
	if s.fd < 0 {
		s.hold(payload)
		return
	}
	out := &s.listener.relay.out
	if out.full() {
		if s.flush(); s.ended {
			return
		}
	}
	if s.prefixed || len(s.target.Header) == 0 {
		out.add(nil, payload)
		return
	}
	s.prefixed = true
	out.add(s.target.Header, payload)
}

func (s *Session) hold(payload []byte) {
	if len(s.held) > 0 && (len(s.held) == heldDatagrams || s.size+len(payload) > heldBytes) {
		s.result.Dropped++
		return
	}
	if len(s.held) > 0 {
		s.size += len(payload)
	}
	s.held = append(s.held, bytes.Clone(payload))
}

// flush sends the outbox to the VM.
func (s *Session) flush() {
	out := &s.listener.relay.out
	if out.count == 0 {
		return
	}
	if s.ended {
		out.clear()
		return
	}
	sent, dropped, err := out.send(s.fd, false)
	s.result.Up.add(sent)
	s.result.Dropped += dropped
	if err != nil {
		s.fail(err)
		return
	}
	if s.touch(); s.answered && s.place.kind == fresh {
		s.listener.relay.assure(s)
	}
}

// Ready passes one batch of the VM's on to the client.
func (s *Session) Ready(events uint32) {
	r := s.listener.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.ended {
		return
	}
	n, err := r.in.receive(s.fd)
	for i := range n {
		s.address(r.out.add(nil, r.in.payload(i)))
	}
	if n > 0 {
		sent, dropped, _ := r.out.send(s.listener.fd, true) // no fault of the VM's, and the client asks again
		s.result.Down.add(sent)
		s.result.Dropped += dropped
		s.heard()
	}
	if events&unix.EPOLLERR != 0 {
		forgetErrors(s.fd)
	}
	// Something about the size or the way of a datagram is dropped by the
	// kernel, which knows better the next time.
	if unreachable(err) {
		s.fail(err)
	}
}

// heard notes that the VM has sent something.
func (s *Session) heard() {
	if !s.answered {
		s.answered = true
		if s.target.Answered != nil {
			s.target.Answered()
		}
	}
	s.touch()
}

// address has an outgoing datagram go to the client, from where it sent to.
func (s *Session) address(h *header) {
	h.Name, h.Namelen = s.name.pointer(), s.name.length()
	if s.controlLen > 0 {
		h.Control = s.control.pointer()
		h.SetControllen(s.controlLen)
	}
}

// Stopped is for the loop, whose end Run sees as well.
func (s *Session) Stopped() {}

// fail ends a session that cannot go on.
func (s *Session) fail(err error) {
	side, reason := message.UsherSide, err.Error()
	if unreachable(err) {
		if side = message.VMSide; errors.Is(err, unix.ECONNREFUSED) {
			reason = "refused"
		}
		if s.target.Refused != nil {
			s.target.Refused(err)
		}
	}
	s.end(side, reason)
}

// unreachable reports an error that says something of the VM: an ICMP message
// of its own or of a router, or the lack of a route.
func unreachable(err error) bool {
	for _, errno := range []unix.Errno{unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.ENOPROTOOPT, unix.EHOSTDOWN} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

func (s *Session) evict() { s.end(message.UsherSide, "evicted") }

// end frees everything but the client's next datagram, which begins another
// session.
func (s *Session) end(side message.Side, reason string) {
	if s.ended {
		return
	}
	s.ended = true
	s.result.Side, s.result.Reason = side, reason
	s.cancel()
	s.result.Dropped += int64(len(s.held))
	s.held = nil
	r, l := s.listener.relay, s.listener
	r.loop.Cancel(&s.timer)
	if s.fd >= 0 {
		r.loop.Forget(s.slot)
		unix.Close(s.fd)
	}
	r.leave(s)
	delete(l.sessions, s.key)
	l.closeIfUnused()
	s.tell()
	r.lookIdle()
}

// tell passes the result on, once the VM was chosen.
func (s *Session) tell() {
	if s.target.Ended == nil {
		return
	}
	r, ended, result := s.listener.relay, s.target.Ended, s.result
	r.telling++
	r.group.Go(func() {
		ended(result)
		r.told()
	})
}
