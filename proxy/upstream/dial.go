package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"usher/proxy/h1"
	"usher/proxy/message"
	"usher/proxy/proxyproto"
	"usher/proxy/socket"
)

// conn is what one exchange has of a connection to a backend.
type conn struct {
	vm         exchanger
	h1         *h1.VM     // vm, if it is the whole connection
	serverName string     // verified for; empty when plain
	remote     netip.Addr // dialed; invalid for Unix sockets
	since      time.Time  // idle since
	lease      Lease      // of the present exchange, kept here so that none is allocated
}

// Close makes a conn something that a message.Client keeps.
func (c *conn) Close() error { return c.vm.Close() }

// errOwn is the fault of a site whose VM is usher itself.
var errOwn = errors.New("the backend is one of usher's own listeners")

// limit bounds everything that it takes to have a usable connection.
func (p *Pool) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.spec.Connect > 0 {
		return context.WithTimeout(ctx, p.spec.Connect)
	}
	return context.WithCancel(ctx)
}

// connect opens a bare connection to a backend and sends the PROXY header.
func (p *Pool) connect(ctx context.Context, b *Backend, client *message.Client) (*socket.Socket, error) {
	s, err := p.dialAny(ctx, b)
	if err != nil {
		return nil, dialError(b, err)
	}
	if p.spec.ProxyProtocol != "" {
		if err := p.introduce(s, client); err != nil {
			s.Close()
			return nil, dialError(b, err)
		}
	}
	return s, nil
}

// dialAny tries the addresses of a backend one after the other.
func (p *Pool) dialAny(ctx context.Context, b *Backend) (*socket.Socket, error) {
	if b.target != "" {
		return p.dialOne(ctx, b, b.literal, b.target)
	}
	addrs, err := p.network.names.resolve(ctx, b.Address.Host)
	if err != nil {
		return nil, err
	}
	b.keepAddresses(addrs)
	for i, ip := range addrs {
		s, e := p.dialShare(ctx, b, ip, len(addrs)-i)
		if e == nil {
			return s, nil
		}
		err = errors.Join(err, e)
	}
	p.network.names.expire(b.Address.Host)
	return nil, err
}

// dialShare gives each of the addresses left an equal share of the time.
func (p *Pool) dialShare(ctx context.Context, b *Backend, ip netip.Addr, left int) (*socket.Socket, error) {
	if end, ok := ctx.Deadline(); ok && left > 1 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(left))
		defer cancel()
	}
	return p.dialOne(ctx, b, ip, net.JoinHostPort(ip.String(), strconv.Itoa(int(b.Address.Port))))
}

func (p *Pool) dialOne(ctx context.Context, b *Backend, ip netip.Addr, target string) (*socket.Socket, error) {
	if p.spec.Forbid != nil && ip.IsValid() && p.spec.Forbid.Has(netip.AddrPortFrom(ip.Unmap(), b.Address.Port)) {
		return nil, errOwn
	}
	return p.network.dial(ctx, b.network, target)
}

// introduce sends the PROXY header that the site asks for.
func (p *Pool) introduce(s *socket.Socket, client *message.Client) error {
	var header []byte
	if p.spec.ProxyProtocol == "v1" {
		header = proxyproto.AppendV1(nil, client.Addr, client.Local)
	} else {
		header = proxyproto.AppendV2(nil, client.Addr, client.Local)
	}
	_, err := s.Write(header)
	return err
}

// dialError says what a client is answered when a VM could not be reached.
func dialError(b *Backend, err error) *message.Error {
	status := 502
	if isTimeout(err) {
		status = 504
	}
	return &message.Error{Side: message.VMSide, Status: status, Replay: true, Err: fmt.Errorf("connect to %s: %w", b.text, err)}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) ||
		errors.As(err, &t) && t.Timeout()
}

// open makes a new HTTP/1.1 connection.
func (p *Pool) open(ctx context.Context, b *Backend, client *message.Client, serverName string) (*conn, error) {
	rw, s, err := p.dialThrough(ctx, b, client, serverName)
	if err != nil {
		return nil, err
	}
	vm := h1.NewVM(rw, s)
	return &conn{vm: vm, h1: vm, serverName: serverName, remote: s.Remote().Addr()}, nil
}

// dialThrough connects, through the TLS handshake if there is one. rw is s
// itself or the TLS connection over it.
func (p *Pool) dialThrough(ctx context.Context, b *Backend, client *message.Client, serverName string) (rw io.ReadWriteCloser, s *socket.Socket, err error) {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	if s, err = p.connect(ctx, b, client); err != nil || p.tls == nil {
		return s, s, err
	}
	if rw, err = p.handshake(ctx, s, serverName); err != nil {
		s.Close()
		return nil, nil, dialError(b, err)
	}
	return rw, s, nil
}

// handshake verifies the backend for a name.
func (p *Pool) handshake(ctx context.Context, s *socket.Socket, serverName string) (*tls.Conn, error) {
	config := p.tls
	if config.ServerName != serverName {
		config = config.Clone()
		config.ServerName = serverName
	}
	t := tls.Client(h1.Announced(s), config)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return t, nil
}
