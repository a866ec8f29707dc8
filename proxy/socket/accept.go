package socket

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// How long Accept leaves the kernel alone when descriptors or memory are used
// up: long enough not to spin, short enough to serve again at once.
const (
	shortestPause = 5 * time.Millisecond
	longestPause  = 500 * time.Millisecond
)

// Accept waits for a connection. It fails with net.ErrClosed after Close, and
// otherwise only if the descriptor is unusable: when descriptors or memory are
// used up, it pauses and tries again.
func (l *Listener) Accept() (*Socket, error) {
	l.accepting.Lock()
	defer l.accepting.Unlock()
	for pause := shortestPause; ; pause = min(2*pause, longestPause) {
		s, err := l.accept()
		if !passing(err) {
			return s, err
		}
		l.pauses.Add(1)
		if err := l.rest(pause); err != nil {
			return nil, err
		}
	}
}

func (l *Listener) accept() (*Socket, error) {
	if err := l.conn.Read(l.try); err != nil { // only Close ends it
		return nil, closedError{}
	}
	s, err := l.next, failed("accept", l.err)
	l.next, l.err = nil, nil
	return s, err
}

// tryAccept is called by the poller before each wait; true ends the waiting.
func (l *Listener) tryAccept(fd uintptr) bool {
	for {
		s, err := l.acceptOne(int(fd))
		switch err {
		case unix.EAGAIN:
			return false
		case unix.EINTR, unix.ECONNABORTED, unix.EPROTO:
			// the connection ended before we came
		default:
			l.next, l.err = s, err
			return true
		}
	}
}

func (l *Listener) acceptOne(fd int) (*Socket, error) {
	nfd, from, err := acceptRaw(fd)
	if err != nil {
		return nil, err
	}
	s := New(nfd, from, netip.AddrPort{})
	s.loop, s.origin = l.loop, l.originOf(nfd)
	l.open.Add(1)
	return s, nil
}

// mostOrigins is how many addresses of ours are remembered: any host has fewer,
// but a transparent listener accepts at those of others.
const mostOrigins = 256

// originOf is the origin of a socket that was just accepted. It costs a system
// call if the listener is bound to all addresses.
func (l *Listener) originOf(fd int) *origin {
	local := l.addr
	if local.Addr().IsUnspecified() {
		local = localAddr(fd)
	}
	o := l.origins[local]
	if o == nil {
		o = &origin{local: local, open: &l.open}
		if len(l.origins) < mostOrigins {
			l.origins[local] = o
		}
	}
	return o
}

// rest waits, or until Close.
func (l *Listener) rest(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-l.done:
		return closedError{}
	}
}

// passing reports an error that may go away: descriptors or memory that are
// used up until others close, or the network's trouble with one connection.
func passing(err error) bool {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return false
	}
	return errno != unix.EBADF && errno != unix.EINVAL && errno != unix.ENOTSOCK && errno != unix.EOPNOTSUPP
}
