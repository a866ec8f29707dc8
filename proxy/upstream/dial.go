package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"usher/proxy/h1"
	"usher/proxy/message"
	"usher/proxy/proxyproto"
	"usher/proxy/socket"
)

// conn is what one exchange or tunnel has of a connection to a backend.
type conn struct {
	backend    *Backend
	vm         exchanger      // nil for a tunnel
	h1         *h1.VM         // vm, if it is the whole connection
	sock       *socket.Socket // of a tunnel, or of plain HTTP/1.1
	serverName string         // verified for; empty when plain
	reused     bool           // it served before
	began      time.Time      // the present exchange
	since      time.Time      // idle since
	lease      Lease          // of the present exchange, kept here so that none is allocated
	early      early          // the body of the present exchange
	place      int            // Backend.mu; in Backend.waiting
	aborted    bool           // Backend.mu
}

// Close makes a conn something that a message.Client keeps.
func (c *conn) Close() error { return c.vm.Close() }

// end gives up a connection with its exchange.
func (c *conn) end() {
	if c.vm == nil {
		c.sock.Close()
		return
	}
	c.vm.Close()
	c.early.end()
	c.vm.Finish()
}

// errOwn is the fault of a site whose VM is usher itself.
var errOwn = errors.New("the backend is one of usher's own listeners")

// limit bounds everything that it takes to have a usable connection.
func (p *Pool) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if p.spec.Connect > 0 {
		return context.WithTimeout(ctx, p.spec.Connect)
	}
	return context.WithCancel(ctx)
}

// opener opens connections for a client.
type opener struct {
	pool   *Pool
	client *message.Client
	name   string // TLS server name
	tunnel bool
}

// open opens a connection to a backend. The error is a *message.Error that
// dialError made.
func (o opener) open(ctx context.Context, b *Backend) (*conn, error) {
	p := o.pool
	switch {
	case o.tunnel:
		limited, cancel := p.limit(ctx)
		defer cancel()
		s, err := p.connect(limited, b, o.client)
		if err != nil {
			return nil, err
		}
		return &conn{backend: b, sock: s}, nil
	case p.spec.HTTP2:
		return p.call(ctx, b, o.client, o.name)
	}
	rw, s, err := p.dialThrough(ctx, b, o.client, o.name)
	if err != nil {
		return nil, err
	}
	vm := h1.NewVM(rw, s)
	c := &conn{backend: b, vm: vm, h1: vm, serverName: o.name}
	if p.tls == nil {
		c.sock = s
	}
	return c, nil
}

// connect opens a bare connection to a backend and sends the PROXY header.
func (p *Pool) connect(ctx context.Context, b *Backend, client *message.Client) (*socket.Socket, error) {
	s, err := p.dial(ctx, b, client)
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

func (p *Pool) dial(ctx context.Context, b *Backend, client *message.Client) (*socket.Socket, error) {
	if p.forbids(b) {
		return nil, errOwn
	}
	if p.spec.Transparent {
		return p.network.DialFrom(ctx, b.network, b.target, client.Addr)
	}
	return p.network.Dial(ctx, b.network, b.target)
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
