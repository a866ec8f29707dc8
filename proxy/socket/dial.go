package socket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// userTimeout is how long a VM may leave bytes unacknowledged: one that was
// powered off sends no reset.
const userTimeout = 20 * time.Second

// probeEvery is in seconds: from keepAlive to userTimeout several probes go to
// a VM that is silent, so that one packet that is lost ends no connection.
const probeEvery = 1

// Dialer connects to VMs. The zero value is ready.
type Dialer struct {
	Local netip.Addr // to connect from; invalid leaves it to the kernel
	Loop  *Loop      // see Socket.UseLoop

	// Transparent connects from Local although it is somebody else's address,
	// see DialTransparent. It is for TCP alone.
	Transparent bool

	probe bool // see Probe
}

// Dial connects to a VM with the zero Dialer.
func Dial(ctx context.Context, network, addr string) (*Socket, error) {
	return (&Dialer{}).Dial(ctx, network, addr)
}

// Dial connects to a VM: network "tcp" with an IP address and port, or "unix"
// with a path. TCP sockets get TCP_NODELAY, keep-alive after 15 s, and
// TCP_USER_TIMEOUT of 20 s, because a powered-off VM sends no reset. Errors
// are the kernel's errno (syscall.ECONNREFUSED and so on) or the context's.
func (d *Dialer) Dial(ctx context.Context, network, addr string) (*Socket, error) {
	s, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s %q: %w", network, addr, err)
	}
	return s, nil
}

func (d *Dialer) dial(ctx context.Context, network, addr string) (*Socket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	switch network {
	case "tcp":
		to, err := netip.ParseAddrPort(addr)
		if err != nil {
			return nil, err
		}
		return d.dialTCP(ctx, to)
	case "unix":
		if d.Transparent {
			return nil, errors.New("a Unix socket cannot carry the client's address")
		}
		return d.dialUnix(ctx, addr)
	}
	return nil, errors.New("unknown network")
}

func (d *Dialer) dialTCP(ctx context.Context, to netip.AddrPort) (*Socket, error) {
	sa, family, err := Sockaddr(to)
	if err != nil {
		return nil, err
	}
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	s, err := d.open(family, to)
	if err != nil {
		return nil, err
	}
	if d.Transparent {
		err = d.disguise(s.fd, family, to.Addr())
	}
	if err == nil {
		err = d.prepare(s.fd)
	}
	if err == nil {
		err = s.connect(ctx, sa)
	}
	if err == nil && chosen(to.Port()) && s.Local() == to {
		// Nobody listens, and the kernel chose that very port for our end.
		err = os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (d *Dialer) open(family int, to netip.AddrPort) (*Socket, error) {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, failed("socket", err)
	}
	s := New(fd, to, netip.AddrPort{})
	s.loop = d.Loop
	return s, nil
}

// prepare sets only what is needed: each option is a system call. The first
// probe comes after keepAlive seconds; when all of them stay unanswered,
// TCP_USER_TIMEOUT ends the connection.
func (d *Dialer) prepare(fd int) error {
	if d.probe {
		return prepareProbe(fd)
	}
	err := setOptions(fd, []option{{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}})
	if err == nil {
		err = Guard(fd)
	}
	if err != nil || !d.Local.IsValid() {
		return err
	}
	// The port is chosen at connect, so that it may serve other peers too.
	if err := setOptions(fd, []option{{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}}); err != nil {
		return err
	}
	sa, _, err := Sockaddr(netip.AddrPortFrom(d.Local, 0))
	if err != nil {
		return err
	}
	return failed("bind", unix.Bind(fd, sa))
}

// connect makes the connection, unless ctx ends first.
func (s *Socket) connect(ctx context.Context, sa unix.Sockaddr) error {
	if err := s.enter(0); err != nil {
		return err
	}
	defer s.leave()
	switch err := unix.Connect(s.fd, sa); err {
	case nil:
		return nil
	case unix.EINPROGRESS, unix.EINTR: // an interrupted connect goes on as well
	default:
		return failed("connect", err)
	}
	return s.outcome(ctx)
}

// outcome is how a connection in progress ended.
func (s *Socket) outcome(ctx context.Context) error {
	if err := s.connected(ctx); err != nil {
		return err
	}
	errno, err := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && errno != 0 {
		err = unix.Errno(errno)
	}
	return failed("connect", err)
}

// connected waits until a connection in progress has succeeded or failed.
func (s *Socket) connected(ctx context.Context) error {
	if ready(s.fd, unix.POLLOUT) != 0 { // on this machine it is that fast
		return nil
	}
	stop := context.AfterFunc(ctx, func() { s.SetWriteDeadline(time.Unix(1, 0)) })
	var err error
	for err == nil {
		if err = s.awaitOut(); err == nil && ready(s.fd, unix.POLLOUT) != 0 {
			break
		}
		s.out.seen()
	}
	if !stop() {
		return ctx.Err()
	}
	return err
}

// dialUnix connects to a path. The kernel says EAGAIN while the backlog of the
// listener is full, and cannot tell when it no longer is.
func (d *Dialer) dialUnix(ctx context.Context, path string) (*Socket, error) {
	s, err := d.open(unix.AF_UNIX, netip.AddrPort{})
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err = s.connect(ctx, &unix.SockaddrUnix{Name: path})
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			break
		}
		if err = sleep(ctx, pause); err != nil {
			break
		}
	}
	s.Close()
	return nil, err
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
