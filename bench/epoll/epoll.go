// Package epoll is one thread that waits for many sockets: the cheapest form of
// a server or a load generator that Go can have, since both share one core with
// each other and must not be what limits a proxy.
package epoll

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In and Out are the readiness that Run reports; an end of stream or an error
// is reported as In.
const (
	In  = unix.EPOLLIN
	Out = unix.EPOLLOUT
)

// Loop belongs to one goroutine.
type Loop struct {
	// Nap is how long Wait stays away from the sockets when there was little to
	// do the last time, so that there is more: the other side, which is busy
	// anyway, then has nobody to wake for each packet, nor has this one. 0: never.
	Nap time.Duration

	fd     int
	last   int // sockets that were ready
	events [512]unix.EpollEvent
}

// little is how many sockets are few.
const little = 12

// New makes a loop without sockets.
func New() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Loop{fd: fd}, nil
}

// Add watches a socket edge-triggered, for reading and writing. Closing the
// socket removes it.
func (l *Loop) Add(fd int) error {
	return l.control(fd, unix.EPOLLIN|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
}

// AddReader watches a socket level-triggered for reading, as listeners need it.
func (l *Loop) AddReader(fd int) error { return l.control(fd, unix.EPOLLIN) }

// AddInput watches a socket edge-triggered, for reading alone.
func (l *Loop) AddInput(fd int) error {
	return l.control(fd, unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLET)
}

func (l *Loop) control(fd int, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(l.fd), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("epoll_ctl: %w", errno)
	}
	return nil
}

// Wait calls handle for each ready socket, waiting up to ms milliseconds (-1:
// for ever) if none is.
func (l *Loop) Wait(ms int, handle func(fd int, events uint32)) error {
	if l.Nap > 0 && l.last < little {
		t := unix.NsecToTimespec(int64(l.Nap))
		unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if n == 0 && errno == 0 && ms != 0 {
		got, err := unix.EpollWait(l.fd, l.events[:], ms)
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		n = uintptr(max(got, 0))
	} else if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("epoll_wait: %w", errno)
	} else if errno != 0 {
		n = 0
	}
	l.last = int(n)
	for i := range int(n) {
		e := &l.events[i]
		handle(int(e.Fd), e.Events)
	}
	return nil
}
