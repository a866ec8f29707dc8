package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/router"
	"usher/telemetry"
	hello "usher/tls"
)

// Intake takes the connections of one TLS listener in, one after the other,
// with memory that they share. What a passthrough site gets from a client whose
// hello is there, for a VM that is near, never has a goroutine.
type Intake struct {
	proxy *Proxy
	ctx   context.Context
	hello hello.Hello
	name  [router.MaxHost]byte
	first [16 << 10]byte
}

// NewIntake makes an Intake whose connections have a context.
func (p *Proxy) NewIntake(ctx context.Context) *Intake { return &Intake{proxy: p, ctx: ctx} }

// Take is ServeTLS in two parts: what may have to wait is left to rest, which
// returns as ServeTLS does. It is nil when the connection has become a tunnel
// that runs by itself.
func (i *Intake) Take(s *socket.Socket) (rest func()) {
	snap := i.proxy.Snapshot()
	if len(snap.ProxyProtocolFrom) > 0 {
		return i.serve(s)
	}
	n, err := s.TryRead(i.first[:])
	switch {
	case err == socket.ErrWait:
		return i.serve(s)
	case err != nil:
		return func() { i.lost(s, err) }
	}
	if g := i.passage(s, snap, i.first[:n]); g != nil {
		return i.begin(s, snap, g, i.first[:n])
	}
	s.Unread(bytes.Clone(i.first[:n]))
	return i.serve(s)
}

func (i *Intake) serve(s *socket.Socket) func() {
	return func() { i.proxy.ServeTLS(i.ctx, s) }
}

// lost ends a connection whose first read failed, as ServeTLS would have.
func (i *Intake) lost(s *socket.Socket, err error) {
	p := i.proxy
	p.Metrics.Accepted(telemetry.HTTPS)
	defer p.Metrics.Closed(telemetry.HTTPS)
	if client, ok := p.introduce(s, telemetry.HTTPS); ok {
		if err != io.EOF {
			err = fmt.Errorf("reading the ClientHello: %w", err)
		}
		p.refuseHello(s, client, err)
	}
}

// passage is what becomes of a connection that has sent the whole ClientHello
// for a passthrough site, nil for all others.
func (i *Intake) passage(s *socket.Socket, snap *Snapshot, first []byte) *passage {
	if !i.hello.Find(first) || i.hello.IsACME() {
		return nil
	}
	name := serverNameIn(i.name[:0], i.hello.ServerName)
	site, ok := snap.Sites.Lookup(name)
	if !ok || !site.Passthrough || site.Fault != "" {
		return nil
	}
	host := site.Host
	if string(name) != host { // a wildcard
		host = string(name)
	}
	peer := s.Remote()
	client := &message.Client{
		Addr: peer, Local: s.Local(), Peer: peer.Addr(),
		Proto: message.Passthrough, ServerName: host, ALPN: firstProtocol(&i.hello),
	}
	return &passage{proxy: i.proxy, site: site, client: client, start: time.Now()}
}

// begin starts the tunnel. What the client has sent so far is in memory that
// the next connection needs.
func (i *Intake) begin(s *socket.Socket, snap *Snapshot, g *passage, first []byte) (rest func()) {
	p := i.proxy
	p.Metrics.Accepted(telemetry.HTTPS)
	a, begun := g.begin(s, first, snap)
	if begun && a == nil {
		return nil
	}
	s.Unread(bytes.Clone(first))
	return func() {
		if begun && !g.finish(i.ctx, s, a) || !begun && !p.serveTLS(i.ctx, s) {
			p.Metrics.Closed(telemetry.HTTPS)
		}
	}
}
