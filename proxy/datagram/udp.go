package datagram

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"usher/proxy/socket"
)

// listenBuffer is what the kernel may hold of a listener while others have
// their turn; it is cut to net.core.rmem_max.
const listenBuffer = 4 << 20

func familyOf(ip netip.Addr) int {
	if ip.Unmap().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func udp(family int) (int, error) {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return fd, os.NewSyscallError("socket", err)
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// bound is a socket for clients at an address.
func bound(at netip.AddrPort) (int, error) {
	family := familyOf(at.Addr())
	fd, err := udp(family)
	if err != nil {
		return -1, err
	}
	if err = prepare(fd, family, at.Addr()); err == nil {
		err = bind(fd, at)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func prepare(fd, family int, ip netip.Addr) error {
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer) // it serves without, too
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, listenBuffer)
	if family == unix.AF_INET6 {
		only := 1
		if ip.IsUnspecified() {
			only = 0
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	if !ip.IsUnspecified() {
		return nil
	}
	if family == unix.AF_INET6 {
		return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_PKTINFO, 1))
}

func bind(fd int, at netip.AddrPort) error {
	sa, _, err := socket.Sockaddr(at)
	if err != nil {
		return err
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sa))
}

// dial is a socket towards a VM.
func dial(t *Target) (int, error) {
	family := familyOf(t.VM.Addr())
	fd, err := udp(family)
	if err != nil {
		return -1, err
	}
	if err = reportErrors(fd, family); err == nil && t.From.IsValid() {
		err = disguise(fd, family, t.From.Unmap())
	}
	if err == nil {
		err = connect(fd, t.VM)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// reportErrors has the kernel tell of a VM that cannot be reached at all, not
// only of one whose port is closed (IP_RECVERR, ip(7)).
func reportErrors(fd, family int) error {
	level, name := unix.IPPROTO_IP, unix.IP_RECVERR
	if family == unix.AF_INET6 {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_RECVERR
	}
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, 1))
}

// forgetErrors empties the queue of errors: what matters of them was seen as
// the result of a call.
func forgetErrors(fd int) {
	var data [1]byte
	for range batchSize { // the loop comes back if there are more
		if _, _, _, _, err := unix.Recvmsg(fd, data[:], nil, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
}

// disguise has the socket's datagrams come from a client's own IP.
func disguise(fd, family int, from netip.Addr) error {
	if familyOf(from) != family {
		return fmt.Errorf("from %s: %w", from, socket.ErrOtherFamily)
	}
	if err := socket.MakeTransparent(fd, family); err != nil {
		return err
	}
	return bind(fd, netip.AddrPortFrom(from, 0))
}

func connect(fd int, to netip.AddrPort) error {
	sa, _, err := socket.Sockaddr(to)
	if err != nil {
		return err
	}
	return os.NewSyscallError("connect", unix.Connect(fd, sa))
}

func localAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
}
