package socket

import (
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// The state word: how many use the descriptor (its owner counts as one until
// Close), and bits that are looked at without a lock.
const (
	users     = 1<<32 - 1
	closed    = 1 << 32 // set with mu held; nobody may enter any more
	joined    = 1 << 33 // set with mu held; registered with a loop
	orphaned  = 1 << 34 // set with mu held; that loop has ended
	readPast  = 1 << 35 // the read deadline has passed
	writePast = 1 << 36
	parked    = 1 << 37 // set with mu held
	hungUp    = 1 << 38 // the loop has seen the end of the peer
	thorough  = 1 << 39 // a short read does not say that nothing is left
)

// enter allows system calls on fd until leave. past is the deadline bit that
// forbids it.
func (s *Socket) enter(past uint64) error {
	for {
		state := s.state.Load()
		switch {
		case state&closed != 0:
			return closedError{}
		case state&past != 0:
			return os.ErrDeadlineExceeded
		case s.state.CompareAndSwap(state, state+1):
			return nil
		}
	}
}

// leave ends what enter allowed. The last to leave a closed Socket frees the
// descriptor.
func (s *Socket) leave() {
	if s.state.Add(^uint64(0))&users == 0 {
		s.release()
	}
}

// closed reports whether the owner has given the descriptor up. While mu is
// held and it is false, fd stays valid without enter.
func (s *Socket) closed() bool { return s.state.Load()&closed != 0 }

// release runs once, when nobody uses the descriptor any more.
func (s *Socket) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.in.disarm()
	s.out.disarm()
	if w := s.watcher.Load(); w != nil && w.detached != nil {
		s.leaveLoop()
		close(w.detached)
	} else {
		if !s.slot.free() {
			s.loop.Forget(s.slot)
			s.slot = Slot{}
		}
		unix.Close(s.fd)
	}
	if s.loop != nil && s.loop.private != nil {
		s.loop.private()
	}
	if s.origin != nil {
		s.origin.closed()
	}
}

// leaveLoop ends the registration with the loop. The caller holds mu.
func (s *Socket) leaveLoop() {
	if !s.slot.free() {
		s.loop.Remove(s.fd, s.slot)
		s.slot = Slot{}
	}
}

// shut forbids new uses and unblocks the present ones. It reports false if
// that was done before.
func (s *Socket) shut(detached chan struct{}) bool {
	s.mu.Lock()
	if s.state.Or(closed)&closed != 0 {
		s.mu.Unlock()
		return false
	}
	if detached != nil {
		s.watching().detached = detached
	}
	s.in.tell()
	s.out.tell()
	s.unpark(false)
	s.mu.Unlock()
	s.leave()
	return true
}

// Close frees the descriptor. A blocked Read or Write fails with an error that
// is net.ErrClosed and os.ErrClosed, and so does a second Close.
func (s *Socket) Close() error {
	if !s.shut(nil) {
		return closedError{}
	}
	return nil
}

// Abort closes with a TCP reset, so that the peer sees a broken transfer.
func (s *Socket) Abort() error {
	if err := s.enter(0); err != nil {
		return err
	}
	lingerNot(s.fd)
	defer s.leave()
	return s.Close()
}

// lingerNot makes a close send a reset.
func lingerNot(fd int) {
	unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// CloseWrite sends FIN.
func (s *Socket) CloseWrite() error {
	if err := s.enter(0); err != nil {
		return err
	}
	defer s.leave()
	return failed("shutdown", unix.Shutdown(s.fd, unix.SHUT_WR))
}

// CloseLinger closes after a refusal so that the peer can read the answer and
// gets no reset: it sends FIN, then discards at most limit bytes for at most d
// and until the peer closes, then closes. The caller is the one who reads.
func (s *Socket) CloseLinger(limit int64, d time.Duration) error {
	s.CloseWrite()
	s.SetReadDeadline(time.Now().Add(d))
	io.Copy(io.Discard, io.LimitReader(s, limit))
	return s.Close()
}

// Detach hands the bare descriptor away, with the bytes that were read ahead
// of it: the caller closes it. It unblocks and waits for whoever uses the
// Socket, which is closed from now on.
func (s *Socket) Detach() (fd int, ahead []byte, err error) {
	if !s.detachAlone() {
		alone := make(chan struct{})
		if !s.shut(alone) {
			return -1, nil, closedError{}
		}
		<-alone
	}
	if ahead = s.ahead; ahead != nil {
		s.emptied()
	}
	return s.fd, ahead, nil
}
