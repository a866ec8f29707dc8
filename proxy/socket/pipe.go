package socket

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// PipeSize is how many bytes a Pipe holds. More at a time means fewer wakes
	// of the peers, until what is under way leaves the processor's cache.
	PipeSize = 128 << 10

	// maxPipes is how many of a Loop are in use at once. An unprivileged user
	// has 64 MiB of pipes before the kernel makes them tiny, see
	// pipe-user-pages-soft in pipe(7).
	maxPipes   = 256
	sparePipes = 8
)

// Pipe carries bytes from one descriptor to another through the kernel, where
// they are not copied.
type Pipe struct {
	in, out int // write end, read end
	held    int
}

// Held is how many bytes are in the pipe.
func (p *Pipe) Held() int { return p.held }

// Fill moves up to n bytes of a descriptor into the pipe, without waiting:
// io.EOF at the end of a socket, unix.EAGAIN when there is nothing,
// unix.EINVAL for what cannot be spliced.
func (p *Pipe) Fill(fd, n int) (int, error) {
	n, err := splice(fd, p.in, min(n, PipeSize))
	p.held += n
	return n, err
}

// Drain moves what is in the pipe to a descriptor, as much as that takes.
func (p *Pipe) Drain(fd int) (int, error) {
	n, err := splice(p.out, fd, p.held)
	if p.held -= n; err == io.EOF {
		err = os.ErrInvalid // it had less than was put into it
	}
	return n, err
}

// splice is one splice system call, which like those of raw.go does not go
// through the scheduler.
func splice(from, to, n int) (int, error) {
	const flags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE
	for {
		moved, _, errno := syscall.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), flags)
		switch {
		case errno == 0 && moved == 0:
			return 0, io.EOF
		case errno == 0:
			return int(moved), nil
		case errno != unix.EINTR:
			return 0, errno
		}
	}
}

// pipes are those of a Loop.
type pipes struct {
	loop *Loop

	mu    sync.Mutex
	used  int     // mu
	spare []*Pipe // mu; the last one used is the last
	least int     // mu; fewest of them since the last look
	timed bool    // mu; the timer is set
	ended bool    // mu
	timer Timer
}

// BorrowPipe returns an empty pipe, or nil if there are enough in use or no
// descriptors: then bytes have to be copied.
func (l *Loop) BorrowPipe() *Pipe {
	p := &l.pipes
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used >= maxPipes || p.ended {
		return nil
	}
	if n := len(p.spare) - 1; n >= 0 {
		pipe := p.spare[n]
		p.spare = p.spare[:n]
		p.least = min(p.least, n)
		p.used++
		return pipe
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return nil
	}
	// Without the right to a larger one, the default size does.
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, PipeSize)
	p.used++
	return &Pipe{in: fds[1], out: fds[0]}
}

// ReturnPipe takes a pipe that was borrowed. One that still holds bytes is of
// no use to anybody.
func (l *Loop) ReturnPipe(pipe *Pipe) {
	p := &l.pipes
	p.mu.Lock()
	p.used--
	keep := pipe.held == 0 && len(p.spare) < sparePipes && !p.ended
	set := keep && !p.timed
	if keep {
		p.spare = append(p.spare, pipe)
		p.timed = true
	}
	p.mu.Unlock()
	if !keep {
		pipe.close()
	}
	if set {
		l.setTick(&p.timer, l.tickAfter(Tick), p)
	}
}

func (p *Pipe) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

// Expire closes those that nobody needed since the last look.
func (p *pipes) Expire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(p.least)
	p.least = len(p.spare)
	if p.timed = p.least > 0; p.timed {
		p.loop.setTick(&p.timer, p.loop.tickAfter(Tick), p)
	}
}

// drop closes the first n. mu is held.
func (p *pipes) drop(n int) {
	for _, pipe := range p.spare[:n] {
		pipe.close()
	}
	rest := copy(p.spare, p.spare[n:])
	clear(p.spare[rest:])
	p.spare = p.spare[:rest]
}

// end closes all, and has those in use closed when they come back.
func (p *pipes) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	p.drop(len(p.spare))
}

// borrowPipe is that of the Loop of the Socket; nil also without one.
func (s *Socket) borrowPipe() *Pipe {
	s.mu.Lock()
	l := s.loop
	s.mu.Unlock()
	if l == nil {
		return nil
	}
	return l.BorrowPipe()
}

// ReadPipe moves at most n bytes into a pipe, and fails with ErrWait where Read
// would wait. The pipe is nil if there is none: then bytes have to be copied, as
// those that Unread gave back. Otherwise the caller returns it with ReturnPipe, as
// soon as it was written.
func (s *Socket) ReadPipe(n int) (*Pipe, error) {
	if err := s.enter(readPast); err != nil {
		return nil, err
	}
	defer s.leave()
	if len(s.ahead) > 0 {
		return nil, nil
	}
	if !s.Pending() {
		return nil, ErrWait
	}
	p := s.borrowPipe()
	if p == nil {
		return nil, nil
	}
	s.in.seen()
	if _, err := p.Fill(s.fd, n); err != nil {
		s.ReturnPipe(p)
		switch err {
		case unix.EAGAIN:
			if err = s.join(); err == nil { // from now on Pending knows
				err = ErrWait
			}
			return nil, err
		case unix.EINVAL:
			err = nil
		}
		s.in.more()
		return nil, failed("splice", err)
	}
	s.in.more()
	return p, nil
}

// ReturnPipe takes a pipe that ReadPipe returned.
func (s *Socket) ReturnPipe(p *Pipe) { s.loop.ReturnPipe(p) }

// WritePipe is Write of all that is in the pipe.
func (s *Socket) WritePipe(p *Pipe) error {
	if err := s.enter(writePast); err != nil {
		return err
	}
	defer s.leave()
	for moved := true; p.held > 0; {
		s.out.seen()
		switch _, err := p.Drain(s.fd); err {
		case nil:
			moved = true
			continue
		case unix.EAGAIN:
		default:
			return failed("splice", err)
		}
		if moved {
			s.progress()
			moved = false
		}
		if err := s.awaitOut(); err != nil {
			return failed("splice", err)
		}
	}
	return nil
}
