package h3

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/ipv4"
)

// Socket is the UDP socket of a Server. All packets come through its ReadBatch
// and leave through its WriteMsgUDP, so that packets can be looked at, and be
// handed to somebody else, before the QUIC library sees them.
type Socket struct {
	*net.UDPConn
	batch *ipv4.PacketConn
}

var _ quic.OOBCapablePacketConn = (*Socket)(nil) // or ECN, GSO and batches would be lost

// Listen opens a UDP socket at addr ("host:port"; an empty host or "[::]"
// listens on IPv4 and IPv6, an IPv4 address on IPv4 alone).
func Listen(addr string) (*Socket, error) {
	if addr == "" {
		return nil, errors.New("listen udp \"\": missing address")
	}
	at, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen udp %q: %w", addr, err)
	}
	network := "udp"
	if at.IP.To4() != nil {
		network = "udp4"
	}
	c, err := net.ListenUDP(network, at)
	if err != nil {
		return nil, fmt.Errorf("listen udp %q: %w", addr, err)
	}
	return NewSocket(c), nil
}

// NewSocket takes over a socket that is open already.
func NewSocket(c *net.UDPConn) *Socket {
	return &Socket{UDPConn: c, batch: ipv4.NewPacketConn(c)}
}

// Addr is the bound address, an IPv4-mapped one as IPv4.
func (s *Socket) Addr() netip.AddrPort { return addrOf(s.LocalAddr()) }

// ReadBatch receives several packets with one system call. It works on sockets
// of either family: the messages are the same.
func (s *Socket) ReadBatch(ms []ipv4.Message, flags int) (int, error) {
	return s.batch.ReadBatch(ms, flags)
}

func addrOf(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := u.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}
