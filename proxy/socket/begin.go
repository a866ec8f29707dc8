package socket

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// target is the address of a VM in the kernel's form.
type target struct {
	to     netip.AddrPort
	family int
	raw    unix.RawSockaddrInet6 // room for both families
	size   uintptr
}

// targetOf is the target of an address without a zone.
func targetOf(to netip.AddrPort) (t target) {
	ip, port := to.Addr().Unmap(), to.Port()
	t.to = netip.AddrPortFrom(ip, port)
	if ip.Is4() {
		t.family, t.size = unix.AF_INET, unix.SizeofSockaddrInet4
		(*unix.RawSockaddrInet4)(unsafe.Pointer(&t.raw)).Addr = ip.As4()
	} else {
		t.family, t.size = unix.AF_INET6, unix.SizeofSockaddrInet6
		t.raw.Addr = ip.As16()
	}
	t.raw.Family = uint16(t.family)
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&t.raw.Port))[:], port) // at the same place in both
	return t
}

// Begin connects to a VM as Dial does, to an address without a zone, without
// waiting, and sends first, of
// which there must be something: the last packet of the handshake carries it.
// It returns the descriptor, which is the caller's, and how many bytes of first
// the kernel took. While the VM has not answered yet, as one on another machine
// cannot have, the error is ErrWait and Finish goes on. The descriptor has none
// of Dial's options: before anything else is written NoDelay is to be called,
// and after a while Guard.
func (d *Dialer) Begin(to netip.AddrPort, first []byte) (fd, sent int, err error) {
	t := targetOf(to)
	fd, sent, err = t.begin(first)
	if err != nil && err != ErrWait {
		return -1, 0, t.failed(err)
	}
	return fd, sent, err
}

func (t *target) failed(err error) error { return fmt.Errorf("dial tcp %q: %w", t.to, err) }

func (t *target) begin(first []byte) (fd, sent int, err error) {
	fd, err = newSocket(t.family)
	if err != nil {
		return -1, 0, failed("socket", err)
	}
	if err = setOption(fd, option{unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0}); err != nil {
		closeFD(fd)
		return -1, 0, failed("setsockopt", err)
	}
	if err = t.connect(fd); err == nil {
		sent, err = writeOnce(fd, first)
	}
	switch {
	case err == nil && t.itself(fd):
		err = unix.ECONNREFUSED
	case err == nil:
		return fd, sent, nil
	case err == unix.EAGAIN, err == unix.EINTR:
		return fd, 0, ErrWait
	}
	closeFD(fd)
	return -1, 0, failed("connect", err)
}

func (t *target) connect(fd int) error {
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&t.raw)), t.size)
	if errno != 0 && errno != unix.EINPROGRESS && errno != unix.EINTR {
		return errno
	}
	return nil
}

// itself reports whether nobody listens and the kernel chose that very port for
// our end.
func (t *target) itself(fd int) bool {
	if !chosen(t.to.Port()) {
		return false
	}
	var raw unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	_, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)))
	return errno == 0 && rawAddr(&raw) == t.to
}

// ownPorts is what the kernel chooses the port of our end from, the last one
// included: all, if it does not say.
var ownPorts = sync.OnceValues(func() (first, last uint16) {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range") // of IPv6 too
	if n, _ := fmt.Sscan(string(text), &first, &last); n != 2 {
		return 0, math.MaxUint16
	}
	return first, last
})

// chosen reports whether our end of a connection may have that port.
func chosen(port uint16) bool {
	first, last := ownPorts()
	return first <= port && port <= last
}

// Finish waits until a connection that Begin left with ErrWait is made; nothing
// was sent yet. It owns fd and fails as Dial does.
func (d *Dialer) Finish(ctx context.Context, to netip.AddrPort, fd int) (*Socket, error) {
	t := targetOf(to)
	s := New(fd, t.to, netip.AddrPort{})
	s.loop = d.Loop
	NoDelay(fd)
	err := Guard(fd)
	if err == nil {
		err = s.finishConnect(ctx)
	}
	if err == nil && t.itself(fd) {
		err = os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	if err != nil {
		s.Close()
		return nil, t.failed(err)
	}
	return s, nil
}

func (s *Socket) finishConnect(ctx context.Context) error {
	if err := s.enter(0); err != nil {
		return err
	}
	defer s.leave()
	return s.outcome(ctx)
}

// NoDelay has the kernel send what is written at once, although the peer has
// not acknowledged what was written before.
func NoDelay(fd int) { setOption(fd, option{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}) }

// Guard has the kernel find out when a VM is gone: keep-alive after 15 s and
// TCP_USER_TIMEOUT of 20 s, as Dial does. It is worth nothing in the first
// seconds of a connection.
func Guard(fd int) error { return setOptions(fd, guards[:]) }

// guards is never changed.
var guards = [...]option{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, probeEvery},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout / 1e6)},
}

func newSocket(family int) (int, error) {
	fd, _, errno := syscall.RawSyscall(unix.SYS_SOCKET, uintptr(family), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func setOption(fd int, o option) error {
	value := int32(o.value)
	_, _, errno := syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(o.level), uintptr(o.name), uintptr(unsafe.Pointer(&value)), 4, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func closeFD(fd int) { syscall.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

// acceptRaw is one accept4 system call.
func acceptRaw(listener int) (fd int, from netip.AddrPort, err error) {
	var raw unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&size)), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	return int(n), rawAddr(&raw), nil
}

// rawAddr is addrOf for the kernel's form.
func rawAddr(raw *unix.RawSockaddrAny) netip.AddrPort {
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
	switch raw.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), port(&a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(raw))
		return addrOf(&unix.SockaddrInet6{Port: int(port(&a.Port)), ZoneId: a.Scope_id, Addr: a.Addr})
	}
	return netip.AddrPort{}
}

// detachAlone is Detach for a Socket that has never waited and that nobody
// uses now; it reports false for any other.
func (s *Socket) detachAlone() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	state := s.state.Load()
	if state&(users|closed|joined|orphaned|parked) != 1 || !s.state.CompareAndSwap(state, state-1|closed) {
		return false
	}
	s.in.disarm()
	s.out.disarm()
	if s.origin != nil {
		s.origin.closed()
	}
	return true
}

// After is Set with the time from now on: e.Expire is called when d has
// certainly passed and at most a second later. It looks at the clock only while
// the Loop has no other Timer.
func (l *Loop) After(t *Timer, d time.Duration, e Expirer) { l.setTick(t, l.tickAfter(d), e) }
