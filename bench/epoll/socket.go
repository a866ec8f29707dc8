package epoll

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Again is what a call returns that would have had to wait.
const Again = -1

// Failed is what a call returns after any other error.
const Failed = -2

func result(n uintptr, errno unix.Errno) int {
	switch errno {
	case 0:
		return int(n)
	case unix.EAGAIN, unix.EINTR, unix.EINPROGRESS:
		return Again
	}
	return Failed
}

// Read receives into p: the number of bytes, 0 at the end of the stream, Again
// or Failed.
func Read(fd int, p []byte) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0, 0, 0)
	return result(n, errno)
}

// Discard takes up to n bytes out of the socket without copying them.
func Discard(fd, n int) int {
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	return result(got, errno)
}

// Write sends p or a part of it.
func Write(fd int, p []byte) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_NOSIGNAL, 0, 0)
	return result(n, errno)
}

// SendFile sends up to n bytes of a file from an offset, without copying them.
func SendFile(fd, file int, offset int64, n int) int {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDFILE, uintptr(fd), uintptr(file), uintptr(unsafe.Pointer(&offset)), uintptr(n), 0, 0)
	return result(sent, errno)
}

// Close closes a socket.
func Close(fd int) { unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// Accept takes a connection from a listener: its descriptor, not blocking, or
// Again or Failed.
func Accept(listener int) int {
	fd, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return result(fd, errno)
}

// Listen listens on an IPv4 address.
func Listen(addr netip.AddrPort) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) // accepted sockets inherit it
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("bind %s: %w", addr, err)
	}
	if err := unix.Listen(fd, 4096); err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("listen %s: %w", addr, err)
	}
	return fd, nil
}

// Peer is an IPv4 address in the kernel's form.
type Peer struct{ raw unix.RawSockaddrInet4 }

// PeerOf converts an IPv4 address.
func PeerOf(addr netip.AddrPort) *Peer {
	p := &Peer{unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: addr.Addr().As4()}}
	port := (*[2]byte)(unsafe.Pointer(&p.raw.Port))
	port[0], port[1] = byte(addr.Port()>>8), byte(addr.Port())
	return p
}

// Dial begins a connection. On loopback it is usually complete when Dial
// returns, so that Write may be tried at once.
func Dial(p *Peer) int {
	fd, _, errno := unix.RawSyscall(unix.SYS_SOCKET, unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return Failed
	}
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&p.raw)), unix.SizeofSockaddrInet4)
	if errno != 0 && errno != unix.EINPROGRESS {
		Close(int(fd))
		return Failed
	}
	return int(fd)
}

// NoDelay switches Nagle's algorithm off.
func NoDelay(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// DeferAccept has a listener report connections when their first bytes are
// there.
func DeferAccept(listener int) {
	unix.SetsockoptInt(listener, unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 1)
}
