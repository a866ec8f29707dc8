package socket

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// backlog is cut to net.core.somaxconn by the kernel.
const backlog = 65535

// Listener accepts Sockets.
type Listener struct {
	file *os.File // owns the descriptor
	conn syscall.RawConn
	addr netip.AddrPort
	loop *Loop

	accepting sync.Mutex // held by the one Accept that waits
	try       func(uintptr) bool
	next      *Socket // accepting
	err       error   // accepting

	origins map[netip.AddrPort]*origin // accepting; by local address

	done   chan struct{} // closed by Close
	once   sync.Once
	open   atomic.Int64
	pauses atomic.Int64
}

// Listen opens a TCP listener at addr ("host:port"; an empty host or "[::]"
// listens on IPv4 and IPv6, or on IPv4 alone where there is no IPv6). The
// keep-alive of 15 s and TCP_NODELAY are set on it once, accepted sockets
// inherit them.
func Listen(addr string) (*Listener, error) {
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil || addr == "" {
		return nil, fmt.Errorf("listen %q: %w", addr, cmp.Or(err, errors.New("missing address")))
	}
	at := a.AddrPort()
	if !at.Addr().IsValid() {
		at = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
	}
	l, err := listen(at)
	if at.Addr() == netip.IPv6Unspecified() && noIPv6(err) {
		l, err = listen(netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port()))
	}
	if err != nil {
		return nil, fmt.Errorf("listen %q: %w", addr, err)
	}
	return l, nil
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

func listen(at netip.AddrPort) (*Listener, error) {
	sa, family, err := Sockaddr(at)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, failed("socket", err)
	}
	l, err := bindListener(fd, family, at.Addr(), sa)
	if err != nil {
		unix.Close(fd)
	}
	return l, err
}

func bindListener(fd, family int, ip netip.Addr, sa unix.Sockaddr) (*Listener, error) {
	if family == unix.AF_INET6 {
		only := 1
		if ip.IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return nil, failed("setsockopt", err)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return nil, failed("setsockopt", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		return nil, failed("bind", err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, failed("listen", err)
	}
	return newListener(fd)
}

// ListenFile makes a Listener of a TCP socket that listens already, as systemd
// hands it over. It duplicates the descriptor: the caller closes f.
func ListenFile(f *os.File) (*Listener, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd, dupErr := -1, error(nil)
	err = conn.Control(func(from uintptr) {
		fd, dupErr = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, failed("dup", dupErr)); err != nil {
		return nil, err
	}
	l, err := adopt(fd)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("socket %q: %w", f.Name(), err)
	}
	return l, nil
}

// adopt checks a descriptor that somebody else opened.
func adopt(fd int) (*Listener, error) {
	if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || n == 0 {
		return nil, errors.New("not a listening socket")
	}
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil || n != unix.IPPROTO_TCP && n != unix.IPPROTO_MPTCP {
		return nil, errors.New("not a TCP socket")
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, failed("fcntl", err)
	}
	return newListener(fd)
}

// unsentMost is about how many bytes the kernel keeps for a client beyond what
// may be on its way: one that does not read costs no more of its memory, which
// else is 4 MiB, and what is urgent does not wait behind more.
const unsentMost = 256 << 10

// newListener takes ownership of fd unless it fails. Its sockets have the
// options of the listener.
func newListener(fd int) (*Listener, error) {
	err := setOptions(fd, []option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
	})
	if err != nil {
		return nil, err
	}
	setOption(fd, option{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMost}) // older kernels do not know it for MPTCP
	l := &Listener{addr: localAddr(fd), done: make(chan struct{}), origins: make(map[netip.AddrPort]*origin)}
	l.file = os.NewFile(uintptr(fd), "listener")
	l.try = l.tryAccept
	l.conn, err = l.file.SyscallConn()
	return l, err
}

// UseLoop names the Loop of all sockets that are accepted from now on, see
// Socket.UseLoop. It must not be called during Accept.
func (l *Listener) UseLoop(loop *Loop) { l.loop = loop }

// Addr is the address listened on, with the real port.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Open is the number of accepted sockets that were neither closed nor
// detached yet.
func (l *Listener) Open() int64 { return l.open.Load() }

// Pauses is how often Accept has waited because descriptors or memory were
// used up.
func (l *Listener) Pauses() int64 { return l.pauses.Load() }

// Close stops accepting; accepted sockets live on.
func (l *Listener) Close() error {
	err := error(closedError{})
	l.once.Do(func() {
		close(l.done)
		err = l.file.Close()
	})
	return err
}
