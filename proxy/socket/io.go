package socket

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Read returns bytes given back by Unread first, then what the kernel has,
// and waits only if there is nothing. It fails with os.ErrDeadlineExceeded
// where it would have to wait beyond the read deadline, and at once when the
// deadline had passed as it was set.
func (s *Socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.enter(readPast); err != nil {
		return 0, err
	}
	n, err := s.read(p)
	s.leave()
	return n, failed("read", err)
}

func (s *Socket) read(p []byte) (int, error) {
	if len(s.ahead) > 0 {
		return s.takeAhead(p), nil
	}
	for {
		n, err := s.try(p)
		if err != unix.EAGAIN {
			return n, err
		}
		if err := s.await(); err != nil {
			return 0, err
		}
	}
}

// try reads if there may be something.
func (s *Socket) try(p []byte) (int, error) {
	state := s.state.Load()
	if state&joined != 0 && s.in.news.Load() != fresh {
		return 0, unix.EAGAIN
	}
	s.in.seen()
	n, err := readOnce(s.fd, p)
	if err != unix.EAGAIN && (n == len(p) || n >= rawLimit || err != nil || state&thorough != 0 || s.state.Load()&thorough != 0) {
		s.in.more()
	}
	return n, err
}

// await waits for something to read.
func (s *Socket) await() error {
	if err := s.join(); err != nil {
		return err
	}
	for {
		err := s.sleep(&s.in, readPast)
		if err != errLapsed {
			return err
		}
		if s.expired(&s.in, readPast) {
			return os.ErrDeadlineExceeded
		}
	}
}

// TryRead is Read that fails with ErrWait where Read would wait.
func (s *Socket) TryRead(p []byte) (int, error) {
	if err := s.enter(readPast); err != nil {
		return 0, err
	}
	defer s.leave()
	if len(s.ahead) > 0 {
		return s.takeAhead(p), nil
	}
	n, err := s.try(p)
	if err == unix.EAGAIN {
		err = ErrWait
	}
	return n, failed("read", err)
}

// WaitReadable waits without a buffer until Read has something to return:
// bytes, io.EOF or an error. A deadline that is not zero becomes the read
// deadline first.
func (s *Socket) WaitReadable(deadline time.Time) error {
	if !deadline.IsZero() {
		s.SetReadDeadline(deadline)
	}
	if err := s.enter(readPast); err != nil {
		return err
	}
	defer s.leave()
	if len(s.ahead) > 0 {
		return nil
	}
	if (s.state.Load()&joined == 0 || s.in.news.Load() == fresh) && s.look() {
		return nil
	}
	return s.await()
}

// WaitPending waits until Pending, without a buffer. It costs no system call
// but for the first wait of a Socket.
func (s *Socket) WaitPending() error {
	if err := s.enter(readPast); err != nil {
		return err
	}
	defer s.leave()
	if s.Pending() {
		return nil
	}
	return s.await()
}

// WaitAnswer is WaitPending for what a VM may send at any moment: the Loop may
// stay awake for it.
func (s *Socket) WaitAnswer() error {
	if s.state.Load()&joined != 0 && !s.loop.crowd.Load() { // others do not wait, or the loop has enough to do
		s.loop.vigil.awaited.Add(1)
		defer s.loop.vigil.awaited.Add(-1)
	}
	return s.WaitPending()
}

// Write writes all of p. It fails with os.ErrDeadlineExceeded when the write
// deadline passes, or when for the write timeout not one byte could be written
// and the peer took none of those written before.
func (s *Socket) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := s.enter(writePast); err != nil {
		return 0, err
	}
	n, err := s.write(p)
	s.leave()
	return n, failed("write", err)
}

func (s *Socket) write(p []byte) (n int, err error) {
	for first := true; ; first = false {
		s.out.seen()
		m, err := writeMany(s.fd, p[n:])
		if n += m; err != unix.EAGAIN {
			return n, err
		}
		if m > 0 || first {
			s.progress()
		}
		if err := s.awaitOut(); err != nil {
			return n, err
		}
	}
}

// WriteBuffers writes the buffers one after the other, with a single system
// call where the kernel takes them all at once. It fails like Write.
func (s *Socket) WriteBuffers(bufs ...[]byte) (int64, error) { return s.gather(bufs, 0) }

// WriteBegin is WriteBuffers of what the caller goes on with at once: the
// kernel may hold it back until then, or until Push.
func (s *Socket) WriteBegin(bufs ...[]byte) (int64, error) { return s.gather(bufs, unix.MSG_MORE) }

// Push has the kernel hold nothing back.
func (s *Socket) Push() {
	if s.enter(0) == nil {
		unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		s.leave()
	}
}

func (s *Socket) gather(bufs [][]byte, flags int) (int64, error) {
	if err := s.enter(writePast); err != nil {
		return 0, err
	}
	defer s.leave()
	n, err := sendOnce(s.fd, bufs, flags)
	if err != nil {
		n = 0 // whatever it is, Write meets it again
	}
	total := int64(n)
	for _, b := range bufs {
		skip := min(n, len(b))
		if n -= skip; skip == len(b) {
			continue
		}
		m, err := s.write(b[skip:])
		if total += int64(m); err != nil {
			return total, failed("write", err)
		}
	}
	return total, nil
}

// Swift reports whether no Write has had to wait for the peer so far.
func (s *Socket) Swift() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.out.outward
}

// awaitOut waits until the kernel takes bytes.
func (s *Socket) awaitOut() error {
	if err := s.face(); err != nil {
		return err
	}
	for {
		err := s.sleep(&s.out.direction, writePast)
		if err != errLapsed {
			return err
		}
		if s.expired(&s.out.direction, writePast) || !s.taken() {
			return os.ErrDeadlineExceeded
		}
	}
}

// progress starts the write timeout again.
func (s *Socket) progress() {
	limit := s.out.timeout.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.till = 0; limit > 0 {
		s.out.till, s.out.left = now()+limit, int32(unsent(s.fd))
	}
}

// taken reports, after errLapsed, whether there is more time: the peer took
// bytes that were written before, though not enough for the kernel to call the
// socket writable, and the write timeout starts again.
func (s *Socket) taken() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.till == 0 || s.out.till > now() {
		return true
	}
	left := int32(unsent(s.fd))
	if left >= s.out.left {
		return false
	}
	s.out.left, s.out.till = left, 0
	if limit := s.out.timeout.Load(); limit > 0 {
		s.out.till = now() + limit
	}
	return true
}

// unsent is how many bytes were written that the peer has not acknowledged.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}
