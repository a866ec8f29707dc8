package socket

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are made without telling the scheduler: on a descriptor that
// does not block they are over sooner than it could do anything about them.
// rawLimit bounds what one of them copies.
const rawLimit = 256 << 10

// readOnce is one read system call, io.EOF at the end.
func readOnce(fd int, p []byte) (int, error) {
	if len(p) > rawLimit {
		p = p[:rawLimit]
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
		switch {
		case errno == 0 && n == 0:
			return 0, io.EOF
		case errno == 0:
			return int(n), nil
		case errno != unix.EINTR:
			return 0, errno
		}
	}
}

// nothing asks whether there is nothing to read, not even an end or an error,
// which may be lost by that. It costs less than ready.
func nothing(fd int) bool {
	for {
		var b byte
		_, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1, unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
		if errno != unix.EINTR {
			return errno == unix.EAGAIN
		}
	}
}

// writeOnce is one write system call.
func writeOnce(fd int, p []byte) (int, error) {
	if len(p) > rawLimit {
		return unix.Write(fd, p)
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// writeMany writes until all is written or the kernel takes no more.
func writeMany(fd int, p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := writeOnce(fd, p[done:])
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

// sendOnce is one sendmsg system call of several buffers, with flags of
// send(2).
func sendOnce(fd int, bufs [][]byte, flags int) (int, error) {
	var vector [4]unix.Iovec
	total, pieces := 0, 0
	for _, b := range bufs {
		total += len(b)
		if pieces == len(vector) || total > rawLimit {
			break
		}
		if len(b) > 0 {
			vector[pieces].Base = &b[0]
			vector[pieces].SetLen(len(b))
			pieces++
		}
	}
	message := unix.Msghdr{Iov: &vector[0]}
	message.SetIovlen(pieces)
	n, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&message)), uintptr(flags|unix.MSG_NOSIGNAL))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// pollOnce fills events with what has happened, without waiting.
func pollOnce(epoll int, events []unix.EpollEvent) int {
	n, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 { // EINTR: the next look finds the same
		return 0
	}
	return int(n)
}

// ready asks, without waiting, which of the events a descriptor has; errors
// and hang-ups are always reported.
func ready(fd int, events int16) int16 {
	set, now := unix.PollFd{Fd: int32(fd), Events: events}, unix.Timespec{}
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != unix.EINTR {
			return set.Revents
		}
	}
}

// epollCtl is one epoll_ctl system call.
func epollCtl(epoll, op, fd int, e *unix.EpollEvent) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(e)), 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}
