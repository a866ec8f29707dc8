package socket

import (
	"io"
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
	poll := s.poll.Load()
	if poll == nil {
		n, err := readOnce(s.fd, p)
		if err != unix.EAGAIN {
			return n, err
		}
		if poll, err = s.register(); err != nil {
			return 0, err
		}
	}
	poll.in.p, poll.in.n = p, 0
	err := poll.in.run(readPast)
	n := poll.in.n
	poll.in.p = nil
	return n, err
}

// readOnce is one read system call, io.EOF at the end.
func readOnce(fd int, p []byte) (int, error) {
	for {
		n, err := unix.Read(fd, p)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
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
	poll, err := s.register()
	if err != nil {
		return err
	}
	return poll.in.run(readPast)
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

func (s *Socket) write(p []byte) (int, error) {
	n := 0
	poll := s.poll.Load()
	if poll == nil {
		var err error
		if n, err = writeMany(s.fd, p); err != unix.EAGAIN {
			return n, err
		}
		if poll, err = s.register(); err != nil {
			return n, err
		}
	}
	poll.out.p, poll.out.n = p[n:], 0
	err := poll.out.run(writePast)
	n += poll.out.n
	poll.out.p = nil
	return n, err
}

// writeMany writes until all is written or the kernel takes no more.
func writeMany(fd int, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(fd, p[done:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// WriteBuffers writes the buffers one after the other, with a single system
// call where the kernel takes them all at once. It fails like Write.
func (s *Socket) WriteBuffers(bufs ...[]byte) (int64, error) {
	if err := s.enter(writePast); err != nil {
		return 0, err
	}
	defer s.leave()
	n, err := unix.Writev(s.fd, bufs)
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
