package proxy

import (
	"context"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/telemetry"
	hello "usher/tls"
)

// passthrough hands a connection to the VM of its site, ClientHello included.
// It returns true once the tunnel runs by itself, false when there is none.
func (p *Proxy) passthrough(ctx context.Context, s *socket.Socket, client *message.Client, site *Site, h *hello.Hello) bool {
	g := &passage{proxy: p, site: site, client: client, start: time.Now()}
	client.Proto = message.Passthrough
	client.ALPN = firstProtocol(h)
	if h.IsACME() {
		return g.dial(ctx, s, affinity([]byte(client.ServerName)))
	}
	switch a, begun := g.begin(s, s.Ahead(), nil); {
	case !begun:
		return g.dial(ctx, s, 0)
	case a != nil:
		return g.finish(ctx, s, a)
	}
	return true
}

// firstProtocol is the first of the ALPN protocols.
func firstProtocol(h *hello.Hello) string {
	if len(h.ALPN) == 0 {
		return ""
	}
	switch string(h.ALPN[0]) {
	case "h2":
		return "h2"
	case "http/1.1":
		return "http/1.1"
	}
	return string(h.ALPN[0])
}

// passage is one connection of a passthrough site.
type passage struct {
	live
	proxy  *Proxy
	site   *Site
	client *message.Client
	start  time.Time
	lease  upstream.Lease
}

// begin starts the tunnel if that takes no waiting. first is what the client
// has sent; it goes to the VM at once. The results are those of Pool.Begin.
// snap is what the routing went by, nil if that may have changed.
func (g *passage) begin(s *socket.Socket, first []byte, snap *Snapshot) (a *upstream.Attempt, begun bool) {
	lease, vm, sent, a, ok := g.site.Pool.Begin(g.client, first, g.start)
	if a != nil || !ok {
		return a, ok
	}
	g.lease = lease
	p := g.proxy
	fd, _, err := s.Detach()
	if err != nil { // nobody else closes it
		fd = -1
	}
	bare := p.Tunnels.Bare(fd, vm, g.site.Timeouts.TunnelIdle, g)
	g.open(bare.Abort)
	p.live.add(&g.live)
	if now := p.Snapshot(); now != snap {
		g.follow(now) // the backend may have left between the routing and now
	}
	bare.Start(first, sent)
	return nil, true
}

// open counts the tunnel.
func (g *passage) open(abort func(string)) {
	g.key, g.backend, g.abort = g.client.ServerName, g.lease.Backend().Source(), abort
	g.proxy.Metrics.TunnelOpened(telemetry.Passthrough)
	g.proxy.tunnels.Add(1)
}

// finish is the rest of begin.
func (g *passage) finish(ctx context.Context, s *socket.Socket, a *upstream.Attempt) bool {
	lease, err := a.Finish(ctx, s)
	return g.relay(s, lease, err)
}

// dial connects to the VM with all patience.
func (g *passage) dial(ctx context.Context, s *socket.Socket, want upstream.Affinity) bool {
	lease, err := g.site.Pool.Dial(ctx, g.client, want, s)
	return g.relay(s, lease, err)
}

// relay starts the tunnel to a VM, or refuses the client.
func (g *passage) relay(s *socket.Socket, lease *upstream.Lease, err error) bool {
	p := g.proxy
	if err != nil {
		if e, ok := err.(*message.Error); !ok || e.Side == message.VMSide {
			g.site.Counters.Failed(faultOf(err))
		}
		p.alert(s, g.client, hello.InternalError, telemetry.BackendDown, err.Error())
		return false
	}
	g.lease = *lease
	open := make(chan struct{})
	var t *tunnel.Tunnel
	g.open(func(reason string) { t.Abort(reason) })
	t = p.Tunnels.Start(tunnel.FromSocket(s), tunnel.FromSocket(lease.Socket()), g.site.Timeouts.TunnelIdle, func(r tunnel.Result) {
		<-open
		g.Ended(r)
	})
	p.live.add(&g.live)
	g.follow(p.Snapshot())
	close(open)
	return true
}

// Ended counts and logs the connection.
func (g *passage) Ended(r tunnel.Result) {
	p := g.proxy
	p.live.remove(&g.live)
	g.end()
	g.lease.Done()
	g.client.Close()
	defer p.tunnels.Done()
	p.finishTunnel(g.site, g.client, g.lease.Backend().String(), r, g.start)
}
