package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"

	"usher/proxy/h1"
	"usher/proxy/message"
	"usher/proxy/socket"
)

// visit is a connection that carries exchanges, from the first one to its end.
// While it is parked no goroutine knows of it.
type visit struct {
	place[*visit]
	p      *Proxy
	ctx    context.Context
	codec  codec
	client *message.Client // nil if nothing is known but the addresses of the socket
}

// exchanges serves HTTP on a connection, in the protocol that was agreed on. It
// returns when the connection has ended or can do without this goroutine, and
// sees to its end. records is what lies below TLS, nil on a plain connection.
// client is nil if nothing is known but the addresses of s.
func (p *Proxy) exchanges(ctx context.Context, rw io.ReadWriter, s *socket.Socket, records *socket.Records, client *message.Client) {
	v := &visit{p: p, ctx: ctx, codec: p.codec(rw, s, client), client: client}
	if c, ok := v.codec.(*h1.Conn); ok {
		c.Parked(records, v)
	}
	p.tunnels.Add(1)
	p.conns.add(v)
	if p.draining.Load() {
		v.codec.Drain()
	}
	v.Again()
}

// Again answers requests until the connection ends or is parked. After that it
// may run elsewhere already.
func (v *visit) Again() {
	err := v.codec.Serve(v.ctx)
	if err == h1.ErrParked {
		return
	}
	p := v.p
	defer p.tunnels.Done()
	p.conns.remove(v)
	secure := false
	if v.client != nil {
		v.client.Close()
		secure = v.client.TLS
	}
	p.Metrics.Closed(kind(secure))
	if err != nil && !errors.Is(err, h1.ErrUpgraded) {
		p.Log.Debug().Str("client", v.addr().String()).Err(err).Msg("connection ended")
	}
}

// addr is the client's address.
func (v *visit) addr() netip.AddrPort {
	if v.client != nil {
		return v.client.Addr
	}
	return v.codec.(*h1.Conn).Remote()
}
