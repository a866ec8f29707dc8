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

// unused is how many connections have no call.
func (s *shared) unused() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.Calls() == 0 {
			n++
		}
	}
	return n
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

// drop lets all connections end with their last call; calls from now on get a
// new one.
func (s *shared) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Drain()
	}
	s.conns = nil
}

// sharedCall reserves a stream on a connection that is there, or returns nil.
func (b *Backend) sharedCall(name string) *conn {
	if call := b.shared.open(name); call != nil {
		return &conn{backend: b, vm: call, reused: true}
	}
	return nil
}

// call opens a connection and reserves a stream on it, unless somebody else
// opens one first.
func (p *Pool) call(ctx context.Context, b *Backend, client *message.Client, name string) (*conn, error) {
	if p.spec.perClient() {
		// The connection speaks for one client: it serves one exchange and ends.
		cc, err := p.openShared(ctx, b, client, name)
		if err != nil {
			return nil, err
		}
		defer cc.Drain()
		return reserve(b, cc)
	}
	limited, cancel := p.limit(ctx) // of waiting for others and dialing together
	defer cancel()
	select {
	case b.shared.opening <- struct{}{}:
		defer func() { <-b.shared.opening }()
	case <-limited.Done():
		return nil, dialError(b, limited.Err())
	}
	if c := b.sharedCall(name); c != nil {
		return c, nil
	}
	cc, err := p.openShared(limited, b, client, name)
	if err != nil {
		return nil, err
	}
	defer b.shared.add(cc)
	return reserve(b, cc)
}

func reserve(b *Backend, cc *sharedConn) (*conn, error) {
	call, ok := cc.Open()
	if !ok {
		return nil, dialError(b, fmt.Errorf("the connection ended at once"))
	}
	return &conn{backend: b, vm: call}, nil
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
