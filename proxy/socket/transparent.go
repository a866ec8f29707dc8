package socket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

var (
	// ErrNoTransparency says that the process may not use addresses of others.
	ErrNoTransparency = errors.New("the capability CAP_NET_RAW or CAP_NET_ADMIN is missing")

	// ErrOtherFamily says that the client's address cannot stand in front of
	// the VM's: one is IPv4, the other IPv6. It is no fault of the VM's.
	ErrOtherFamily = errors.New("the client's address is of another family than the VM's")
)

// DialTransparent is Dial for a VM that is to see the client's own address
// (IP_TRANSPARENT, ip(7)): the connection comes from the IP of from, and from a
// port that the kernel chooses. The answers of the VM must be routed to this
// machine, else it ends with ctx. It fails with ErrNoTransparency without the
// capability, and with ErrOtherFamily when the addresses do not go together;
// a Unix socket carries no address and is refused. Such a connection is this
// client's and nobody else's.
func DialTransparent(ctx context.Context, network, addr string, from netip.AddrPort) (*Socket, error) {
	return (&Dialer{}).DialTransparent(ctx, network, addr, from)
}

// DialTransparent is the function of that name with the Loop of d.
func (d *Dialer) DialTransparent(ctx context.Context, network, addr string, from netip.AddrPort) (*Socket, error) {
	return (&Dialer{Loop: d.Loop, Local: from.Addr().Unmap(), Transparent: true}).Dial(ctx, network, addr)
}

// TransparentPossible is nil when the process may use DialTransparent, and
// ErrNoTransparency when it has not got the capability.
func TransparentPossible() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return failed("socket", err)
	}
	defer unix.Close(fd)
	return MakeTransparent(fd, unix.AF_INET)
}

// MakeTransparent lets a socket of that family be bound to any address, also
// one that is not this machine's.
func MakeTransparent(fd, family int) error {
	o := option{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	if family == unix.AF_INET6 {
		o = option{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	}
	err := setOptions(fd, []option{o})
	if errors.Is(err, unix.EPERM) {
		return ErrNoTransparency
	}
	return err
}

// disguise prepares a connection to an address for another source than ours.
func (d *Dialer) disguise(fd, family int, to netip.Addr) error {
	switch {
	case !d.Local.IsValid():
		return errors.New("the client's address is not known")
	case d.Local.Is4() != to.Is4():
		return fmt.Errorf("from %s: %w", d.Local, ErrOtherFamily)
	}
	return MakeTransparent(fd, family)
}
