package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"time"

	"usher/proxy/h2"
	"usher/proxy/message"
)

// exchanger is one exchange on a connection to a VM: the whole connection in
// HTTP/1.1, a stream of it in HTTP/2.
type exchanger interface {
	RoundTrip(ctx context.Context, ex *message.Exchange, silent time.Duration) error
	Answered() bool
	Finish() (reusable bool)
	Duplex() message.Duplex
	Close() error
}

// shared is the HTTP/2 connections of a backend. Whoever finds no room in them
// opens another; one at a time, so that the first requests after a start do
// not open one each.
type shared struct {
	mu      sync.Mutex
	conns   []*sharedConn
	retired bool          // nothing is kept any more
	opening chan struct{} // holds one token
}

// sharedConn is one of them.
type sharedConn struct {
	*h2.ClientConn
	serverName string
	idleSince  time.Time // zero while there are calls, as far as the last reap saw
}

// open reserves a call, or returns nil. Connections that ended are forgotten.
func (s *shared) open(serverName string) *h2.Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(c *sharedConn) bool { return !c.Usable() })
	for _, c := range s.conns {
		if c.serverName != serverName {
			continue
		}
		if call, ok := c.Open(); ok {
			return call
		}
	}
	return nil
}

func (s *shared) add(c *sharedConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retired {
		c.Drain() // with its first call
		return
	}
	s.conns = append(s.conns, c)
}

// reap lets connections end that have had no call since before t.
func (s *shared) reap(now, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		switch {
		case c.Calls() > 0:
			c.idleSince = time.Time{}
		case c.idleSince.IsZero():
			c.idleSince = now
		case c.idleSince.Before(t):
			c.Drain()
		}
	}
}

// retire lets all connections end with their last call.
func (s *shared) retire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Drain()
	}
	s.conns, s.retired = nil, true
}

// call reserves a stream on a connection that is there, or opens one.
func (p *Pool) call(ctx context.Context, b *Backend, client *message.Client, name string) (c *conn, reused bool, err error) {
	if p.spec.ProxyProtocol != "" {
		// The connection speaks for one client: it serves one exchange and ends.
		cc, err := p.openShared(ctx, b, client, name)
		if err != nil {
			return nil, false, err
		}
		defer cc.Drain()
		return reserve(b, cc)
	}
	if call := b.shared.open(name); call != nil {
		return &conn{vm: call}, true, nil
	}
	limited, cancel := p.limit(ctx) // of waiting for others and dialing together
	defer cancel()
	select {
	case b.shared.opening <- struct{}{}:
		defer func() { <-b.shared.opening }()
	case <-limited.Done():
		if ctx.Err() != nil {
			return nil, false, &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
		}
		return nil, false, dialError(b, limited.Err())
	}
	if call := b.shared.open(name); call != nil {
		return &conn{vm: call}, true, nil
	}
	cc, err := p.openShared(limited, b, client, name)
	if err != nil {
		return nil, false, err
	}
	defer b.shared.add(cc)
	return reserve(b, cc)
}

func reserve(b *Backend, cc *sharedConn) (*conn, bool, error) {
	call, ok := cc.Open()
	if !ok {
		return nil, false, dialError(b, fmt.Errorf("the connection ended at once"))
	}
	return &conn{vm: call}, false, nil
}

// openShared opens an HTTP/2 connection, which runs until it is retired or the
// VM ends it. It waits for the VM's SETTINGS, so that no call is refused that
// the VM never said it would take.
func (p *Pool) openShared(ctx context.Context, b *Backend, client *message.Client, name string) (*sharedConn, error) {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	rw, s, err := p.dialThrough(ctx, b, client, name)
	if err != nil {
		return nil, err
	}
	if t, ok := rw.(*tls.Conn); ok && t.ConnectionState().NegotiatedProtocol != "h2" {
		s.Close()
		return nil, dialError(b, fmt.Errorf("the VM does not agree to HTTP/2"))
	}
	cc := &sharedConn{ClientConn: h2.NewClientConn(rw, s), serverName: name}
	go cc.Run(context.Background())
	if err := cc.Greeted(ctx); err != nil {
		cc.Close()
		return nil, dialError(b, fmt.Errorf("waiting for the VM's SETTINGS: %w", err))
	}
	return cc, nil
}
