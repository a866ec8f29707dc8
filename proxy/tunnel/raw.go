package tunnel

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls below are made without telling the scheduler: on a descriptor that
// does not block they are over sooner than it could do anything about them,
// and the runtime's monitor thread has no reason to look after us.

// readOnce is one recv system call, io.EOF at the end.
func readOnce(fd int, p []byte) (int, error) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	switch {
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, io.EOF
	}
	return int(n), nil
}

// sendOnce is one send system call. With more set the kernel may wait for what
// comes next, be it the FIN, to put both into one segment.
func sendOnce(fd int, p []byte, more bool) (int, error) {
	flags := unix.MSG_NOSIGNAL
	if more {
		flags |= unix.MSG_MORE
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), uintptr(flags), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// finish sends FIN.
func finish(fd int) { syscall.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), unix.SHUT_WR, 0) }

// closeNow frees a descriptor.
func closeNow(fd int) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }
