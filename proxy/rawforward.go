package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
	hello "usher/tls"
)

// Forward is a raw port of one generation: what comes is taken to VMs as it
// is. It is never changed once published.
type Forward struct {
	Name  string                       // "tcp://LISTEN" or "udp://LISTEN", its key in Snapshot.Forwards
	Rest  *ForwardRoute                // of everything, or of what Names has not; nil for none
	Names *router.Table[*ForwardRoute] // by server name; nil: the bytes are not looked at
	List  []*ForwardRoute              // the values of Names

	TunnelIdle  time.Duration
	Counters    *telemetry.Site
	ProxyHeader bool // UDP: the first datagram of a session begins with a PROXY header
	Transparent bool // UDP: VMs see the client's address
}

// ForwardRoute is where the connections of a raw port go.
type ForwardRoute struct {
	Terminate bool // TLS ends here and the VM gets plain bytes
	Pool      *upstream.Pool
}

// route finds where a server name goes; nil for nowhere.
func (f *Forward) route(name []byte) *ForwardRoute {
	if f.Names != nil {
		if r, ok := f.Names.Lookup(name); ok {
			return r
		}
	}
	return f.Rest
}

// EachPool calls do for every pool of the forward.
func (f *Forward) EachPool(do func(*upstream.Pool)) {
	if f.Rest != nil {
		do(f.Rest.Pool)
	}
	for _, r := range f.List {
		do(r.Pool)
	}
}

// reaches reports whether a backend of a server name was configured so.
func (f *Forward) reaches(name, source string) bool {
	r := f.route([]byte(name))
	if r == nil {
		return false
	}
	for _, b := range r.Pool.Backends() {
		if b.Source() == source {
			return true
		}
	}
	return false
}

// ServeForward serves one accepted connection of the raw port with that name.
// It returns once a tunnel runs by itself, or there is none.
func (p *Proxy) ServeForward(ctx context.Context, s *socket.Socket, name string) {
	p.Metrics.Accepted(telemetry.TCP)
	if !p.serveForward(ctx, s, name) {
		p.Metrics.Closed(telemetry.TCP)
	}
}

func (p *Proxy) serveForward(ctx context.Context, s *socket.Socket, name string) (tunnel bool) {
	client, ok := p.introduce(s, telemetry.TCP)
	if !ok {
		return false
	}
	w := forwarding{proxy: p, snap: p.Snapshot(), socket: s, client: client, start: time.Now()}
	if w.forward = w.snap.Forwards[name]; w.forward == nil { // it was removed just now
		s.Abort()
		return false
	}
	if w.forward.Names == nil {
		return w.raw(ctx, w.forward.Rest)
	}
	return w.named(ctx)
}

// forwarding is a connection of a raw port on its way to a VM.
type forwarding struct {
	proxy   *Proxy
	snap    *Snapshot
	forward *Forward
	socket  *socket.Socket
	client  *message.Client
	start   time.Time
	secured bool // a ClientHello was read: alerts are understood
}

// named decides by the server name. Bytes that are no TLS have none.
func (w *forwarding) named(ctx context.Context) (tunnel bool) {
	s := w.socket
	s.SetReadDeadline(deadline(w.snap.Timeouts.ClientHello))
	h, err := hello.Peek(s, helloLimit)
	s.SetReadDeadline(time.Time{})
	switch {
	case errors.Is(err, hello.ErrNotTLS) && w.forward.Rest != nil:
		return w.raw(ctx, w.forward.Rest)
	case err != nil:
		w.refuseHello(err)
		return false
	}
	w.secured = true
	name := serverName(h.ServerName)
	w.client.ServerName = string(name)
	if len(h.ALPN) > 0 {
		w.client.ALPN = string(h.ALPN[0])
	}
	switch r := w.forward.route(name); {
	case r == nil:
		w.refuse(hello.UnrecognizedName, telemetry.UnknownName, string(h.ServerName))
		return false
	case r.Terminate:
		return w.terminate(ctx, r)
	default:
		return w.raw(ctx, r)
	}
}

func (w *forwarding) refuseHello(err error) {
	switch {
	case errors.Is(err, hello.ErrHello):
		w.secured = true
		w.refuse(hello.DecodeError, telemetry.BadHello, err.Error())
	case errors.Is(err, io.EOF):
		w.socket.Close()
	default:
		cause := telemetry.NotTLS
		if !errors.Is(err, hello.ErrNotTLS) {
			cause = causeOf(err, telemetry.BadHello)
		}
		w.refuse(0, cause, err.Error())
	}
}

// refuse ends a connection that gets no VM, by an alert if that is understood,
// else by a reset: a clean end would look as if the VM had nothing to say.
func (w *forwarding) refuse(a hello.Alert, cause telemetry.Cause, detail string) {
	w.proxy.refusedBy(telemetry.TCP, w.client, cause, detail)
	if !w.secured {
		w.socket.Abort()
		return
	}
	hello.WriteAlert(w.socket, a)
	w.socket.CloseLinger(lingerBytes, lingerTime)
}

// dial connects to a VM, or refuses the client.
func (w *forwarding) dial(ctx context.Context, r *ForwardRoute) *upstream.Lease {
	lease, err := r.Pool.Dial(ctx, w.client, 0, w.socket)
	if err != nil {
		if vmFailed(err) {
			w.forward.Counters.Failed(faultOf(err))
		}
		w.refuse(hello.InternalError, telemetry.BackendDown, err.Error())
		return nil
	}
	return lease
}

// vmFailed reports an error that is the VM's: not that the client has left, or
// that usher does not want to.
func vmFailed(err error) bool {
	var e *message.Error
	return !errors.As(err, &e) || e.Side == message.VMSide
}

// raw relays every byte, a ClientHello that was read included.
func (w *forwarding) raw(ctx context.Context, r *ForwardRoute) (tunnel bool) {
	w.client.Proto = message.Passthrough
	lease := w.dial(ctx, r)
	if lease == nil {
		return false
	}
	w.relay(fromSocket(w.socket), lease)
	return true
}

// terminate does the handshake with our certificate and relays what is inside.
func (w *forwarding) terminate(ctx context.Context, r *ForwardRoute) (tunnel bool) {
	p := w.proxy
	t := tls.Server(w.socket, p.opaque())
	if err := shake(ctx, t, w.snap.Timeouts.Handshake); err != nil {
		cause := telemetry.Handshake
		if !p.Certificates.Has(w.client.ServerName) {
			cause = telemetry.NoCertificate
		}
		p.refusedBy(telemetry.TCP, w.client, cause, err.Error())
		w.socket.CloseLinger(lingerBytes, lingerTime)
		return false
	}
	state := t.ConnectionState()
	w.client.TLS = true
	w.client.ALPN, w.client.TLSVersion, w.client.CipherSuite = state.NegotiatedProtocol, state.Version, state.CipherSuite
	w.secured = false // no alert of ours is understood any more
	lease := w.dial(ctx, r)
	if lease == nil {
		return false
	}
	w.relay(sealed{t, w.socket}, lease)
	return true
}

// relay hands both ends to the tunnel loop.
func (w *forwarding) relay(client message.Duplex, lease *upstream.Lease) {
	p := w.proxy
	l := &live{forward: w.forward.Name, key: w.client.ServerName, backend: lease.Backend().Source()}
	p.Metrics.TunnelOpened(telemetry.Forward)
	p.tunnels.Add(1)
	ended := make(chan func(), 1)
	t := p.Tunnels.Start(client, fromSocket(lease.Socket()), w.forward.TunnelIdle, func(r tunnel.Result) {
		(<-ended)()
		lease.Done()
		w.client.Close()
		defer p.tunnels.Done()
		w.finish(lease.Backend().String(), r)
	})
	l.abort = t.Abort
	ended <- p.track(l)
}

// finish counts and logs the connection.
func (w *forwarding) finish(backend string, r tunnel.Result) {
	p, c := w.proxy, w.client
	w.forward.Counters.Tunnel(r.Up, r.Down)
	p.Metrics.TunnelClosed(telemetry.Forward)
	p.Metrics.Closed(telemetry.TCP)
	p.Access.Tunnel(&telemetry.Tunnel{
		Time: w.start, Client: c.Addr.Addr(), Port: c.Addr.Port(), Site: w.forward.Name, SNI: c.ServerName, ALPN: c.ALPN,
		Backend: backend, BytesIn: r.Up, BytesOut: r.Down, Duration: time.Since(w.start),
		ClosedBy: r.Side.String(), Reason: r.Reason,
	})
}

func fromSocket(s *socket.Socket) message.Duplex { return tunnel.FromSocket(s) }

// sealed is the inside of a TLS connection. It has no bare socket: somebody
// has to encrypt.
type sealed struct {
	*tls.Conn
	wire *socket.Socket
}

// Abort closes with a reset, whatever the reason.
func (s sealed) Abort(error) { s.wire.Abort() }

// Socket says that there is none.
func (s sealed) Socket() (*socket.Socket, []byte) { return nil, nil }

// opaque is the handshake of raw ports: the protocol inside is none of our
// business, so none is agreed on.
func opaque(c *tls.Config) *tls.Config {
	c = c.Clone()
	c.NextProtos = nil
	return c
}
