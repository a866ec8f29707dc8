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
	start := time.Now()
	client.Proto = message.Passthrough
	if len(h.ALPN) > 0 {
		client.ALPN = string(h.ALPN[0])
	}
	var want upstream.Affinity
	if h.IsACME() {
		want = affinity([]byte(client.ServerName))
	}
	lease, err := site.Pool.Dial(ctx, client, want, s)
	if err != nil {
		if e, ok := err.(*message.Error); !ok || e.Side == message.VMSide {
			site.Counters.Failed(faultOf(err))
		}
		p.alert(s, client, hello.InternalError, telemetry.BackendDown, err.Error())
		return false
	}
	l := &live{key: client.ServerName, backend: lease.Backend().Source()}
	p.Metrics.TunnelOpened(telemetry.Passthrough)
	p.tunnels.Add(1)
	ended := make(chan func(), 1)
	t := p.Tunnels.Start(tunnel.FromSocket(s), tunnel.FromSocket(lease.Socket()), site.Timeouts.TunnelIdle, func(r tunnel.Result) {
		(<-ended)()
		lease.Done()
		client.Close()
		defer p.tunnels.Done()
		p.finishTunnel(site, client, lease.Backend().String(), r, start)
	})
	l.abort = t.Abort
	ended <- p.track(l)
	return true
}
