package socket

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errBusy says that a Socket cannot change its state while somebody reads,
// writes or looks at it.
var errBusy = errors.New("socket is in use")

// polling is the registration of a Socket with the runtime's poller. It is
// made on the first wait, because many short connections never wait and a
// parked one must not pay for it.
type polling struct {
	s       *Socket
	file    *os.File // owns the descriptor from now on
	conn    syscall.RawConn
	in, out direction
}

// direction is one half of a polling: its reader, or its writer, is the only
// one who touches what is not marked mu.
type direction struct {
	poll *polling
	try  func(fd uintptr) bool // bound once, so that a wait allocates nothing

	p    []byte // to read into or to write; nil just waits
	n    int
	err  error
	left int // bytes that the peer had not taken when it last took some

	waiting bool      // mu
	till    time.Time // mu while waiting; when the write timeout ends; zero is never
	applied time.Time // mu; the deadline that the poller has
}

// register makes the registration if there is none.
func (s *Socket) register() (*polling, error) {
	if p := s.poll.Load(); p != nil {
		return p, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.poll.Load(); p != nil {
		return p, nil
	}
	p := &polling{s: s, file: os.NewFile(uintptr(s.fd), "socket")}
	var err error
	if p.conn, err = p.file.SyscallConn(); err != nil {
		return nil, err
	}
	p.in = direction{poll: p, try: p.in.tryRead}
	p.out = direction{poll: p, try: p.out.tryWrite}
	s.poll.Store(p)
	return p, nil
}

// leavePoll makes the descriptor bare again. The caller holds mu and is the
// only user. The file cannot let go of a descriptor, so it closes one of two.
func (s *Socket) leavePoll() error {
	p := s.poll.Load()
	if p == nil {
		return nil
	}
	fd, err := unix.FcntlInt(uintptr(s.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return failed("dup", err)
	}
	s.leaveLoop() // which knows the number that is about to end
	p.file.Close()
	s.fd = fd
	s.poll.Store(nil)
	return nil
}

// evict ends the waits of a Socket that was just closed. The caller holds mu.
func (p *polling) evict() {
	for _, d := range []*direction{&p.in, &p.out} {
		if d.waiting {
			d.set(time.Unix(1, 0))
		}
	}
}

// run tries, and waits as long as the deadline allows, until the try is over.
func (d *direction) run(past uint64) error {
	d.err, d.till = nil, time.Time{}
	for {
		err := d.wait()
		if err == nil {
			err = d.err
		} else if errors.Is(err, os.ErrDeadlineExceeded) {
			if err = d.expired(past); err == nil {
				continue
			}
		}
		d.stop()
		return err
	}
}

// wait tries, waits, and tries again.
func (d *direction) wait() error {
	if d == &d.poll.in {
		return d.poll.conn.Read(d.try)
	}
	return d.poll.conn.Write(d.try)
}

// set gives the poller a deadline. The caller holds mu.
func (d *direction) set(t time.Time) {
	d.applied = t
	if d == &d.poll.in {
		d.poll.file.SetReadDeadline(t)
	} else {
		d.poll.file.SetWriteDeadline(t)
	}
}

// deadline is the one of the Socket. The caller holds mu.
func (d *direction) deadline() time.Time {
	if d == &d.poll.in {
		return d.poll.s.readDeadline
	}
	return d.poll.s.writeDeadline
}

// tryRead is called by the poller before each wait; true ends the waiting.
func (d *direction) tryRead(fd uintptr) bool {
	var again bool
	if d.p == nil {
		again = !d.waiting && ready(int(fd), unix.POLLIN|unix.POLLRDHUP) == 0
	} else {
		d.n, d.err = readOnce(int(fd), d.p)
		again = d.err == unix.EAGAIN
	}
	return !again || !d.await()
}

// tryWrite is tryRead for the writer. It goes on until all is written.
func (d *direction) tryWrite(fd uintptr) bool {
	if d.p == nil {
		return ready(int(fd), unix.POLLOUT) != 0 || !d.await()
	}
	n, err := writeMany(int(fd), d.p[d.n:])
	if d.n += n; err != unix.EAGAIN {
		d.err = err
		return true
	}
	if n > 0 || d.till.IsZero() {
		d.progress(int(fd))
	}
	return !d.await()
}

// progress starts the write timeout again.
func (d *direction) progress(fd int) {
	s := d.poll.s
	till := s.writeLimit(time.Now())
	if till.IsZero() {
		return
	}
	d.left = unsent(fd)
	s.mu.Lock()
	defer s.mu.Unlock()
	d.till = till
}

// unsent is how many bytes were written that the peer has not acknowledged.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// await prepares a wait: from now on a change of the deadline reaches the
// poller. It reports false, with err set, if there is nothing to wait for.
func (d *direction) await() bool {
	s := d.poll.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed() {
		d.err = closedError{}
		return false
	}
	d.err = nil
	d.waiting = true
	d.apply()
	return true
}

// due is the earlier of the deadline and the end of the write timeout.
func (d *direction) due() time.Time {
	t := d.deadline()
	if t.IsZero() || !d.till.IsZero() && d.till.Before(t) {
		return d.till
	}
	return t
}

// apply tells the poller of a deadline that is earlier than the one it has. A
// later one waits until the old one fires, which spares a timer for each of
// the many deadlines that never come. The caller holds mu.
func (d *direction) apply() {
	t := d.due()
	if t.IsZero() || !d.applied.IsZero() && !t.Before(d.applied) {
		return
	}
	d.set(t)
}

// expired looks why the poller's deadline fired: nil says that there is more
// time.
func (d *direction) expired(past uint64) error {
	s := d.poll.s
	s.mu.Lock()
	defer s.mu.Unlock()
	d.waiting = false
	if s.closed() {
		return closedError{}
	}
	now := time.Now()
	if t := d.deadline(); !t.IsZero() && !t.After(now) {
		s.state.Or(past)
		return os.ErrDeadlineExceeded
	}
	if !d.till.IsZero() && !d.till.After(now) && !d.taken(now) {
		return os.ErrDeadlineExceeded
	}
	d.set(d.due())
	return nil
}

// taken reports whether the peer took bytes that were written before, though
// not enough for the kernel to call the socket writable, and then starts the
// write timeout again.
func (d *direction) taken(now time.Time) bool {
	s := d.poll.s
	left := unsent(s.fd)
	if left >= d.left {
		return false
	}
	d.left, d.till = left, s.writeLimit(now)
	return true
}

// stop ends a wait that has succeeded or failed.
func (d *direction) stop() {
	if d.waiting {
		d.poll.s.mu.Lock()
		d.waiting = false
		d.poll.s.mu.Unlock()
	}
}
