package proxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
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
	room  room
}

// room is the memory that taking a connection in needs.
type room struct {
	hello hello.Hello
	name  [router.MaxHost]byte
	first [16 << 10]byte
}

// rooms are of goroutines that begin with a connection whose hello was not
// there at once. It was on its way, as a rule, and is there when they run.
var rooms = sync.Pool{New: func() any { return new(room) }}

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
	rest, waits := i.try(s, snap, &i.room)
	if waits {
		return func() { i.again(s) }
	}
	return rest
}

// again is Take once the client has had a moment, with all that is left to do.
func (i *Intake) again(s *socket.Socket) {
	r := rooms.Get().(*room)
	rest, waits := i.try(s, i.proxy.Snapshot(), r)
	rooms.Put(r)
	switch {
	case waits:
		i.proxy.ServeTLS(i.ctx, s)
	case rest != nil:
		rest()
	}
}

// try is Take, unless the client has to be waited for.
func (i *Intake) try(s *socket.Socket, snap *Snapshot, r *room) (rest func(), waits bool) {
	n, err := s.TryRead(r.first[:])
	switch {
	case err == socket.ErrWait:
		return nil, true
	case err != nil:
		return func() { i.lost(s, err) }, false
	}
	if g := i.passage(s, snap, r, r.first[:n]); g != nil {
		return i.begin(s, snap, g, r.first[:n]), false
	}
	s.Unread(bytes.Clone(r.first[:n]))
	return i.serve(s), false
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
func (i *Intake) passage(s *socket.Socket, snap *Snapshot, r *room, first []byte) *passage {
	if !r.hello.Find(first) || r.hello.IsACME() {
		return nil
	}
	name := serverNameIn(r.name[:0], r.hello.ServerName)
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
		Proto: message.Passthrough, ServerName: host, ALPN: firstProtocol(&r.hello),
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
