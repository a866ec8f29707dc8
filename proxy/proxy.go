package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"usher/proxy/tunnel"
	"usher/telemetry"
)

// Certificates is what the data plane asks of the certificates.
type Certificates interface {
	ServerConfig() *tls.Config    // for handshakes of terminated sites
	ChallengeConfig() *tls.Config // for TLS-ALPN-01 of sites that own their challenges
	HTTPChallenge(host, token string) (keyAuth string, ok bool)
	// Covers is whether the certificate that is shown for a server name, or
	// for our address without one, is valid for another host.
	Covers(serverName string, local netip.Addr, host string) bool
	Has(host string) bool // whether there is a certificate to show
}

// Options is what a Proxy is made of; all fields are needed.
type Options struct {
	Certificates Certificates
	Tunnels      *tunnel.Relay
	Access       *telemetry.Log
	Metrics      *telemetry.Metrics
	Log          zerolog.Logger
}

// codec is a client connection of any protocol.
type codec interface {
	Serve(context.Context) error
	Drain()
}

// Proxy serves connections by the published snapshot.
type Proxy struct {
	Options
	snapshot atomic.Pointer[Snapshot]
	opaque   func() *tls.Config // of the handshakes of raw ports
	via      []byte             // our value of Via; its token is of this process alone
	conns    *registry[*visit]
	live     *registry[*live]
	tunnels  sync.WaitGroup // passthrough connections and those with exchanges, which may be nobody's goroutine
	draining atomic.Bool
}

// New makes a proxy. Publish a snapshot before the first connection.
func New(o Options) *Proxy {
	var id [5]byte
	rand.Read(id[:])
	return &Proxy{
		Options: o, via: []byte(viaProtocol + "usher-" + hex.EncodeToString(id[:])),
		opaque: sync.OnceValue(func() *tls.Config { return opaque(o.Certificates.ServerConfig()) }),
		conns:  newRegistry[*visit](), live: newRegistry[*live](),
	}
}

// Publish makes next the world of every decision from now on and returns the
// one before. Tunnels and endless responses whose site or backend is not in it
// any more end after the drain time.
func (p *Proxy) Publish(next *Snapshot) (old *Snapshot) {
	old = p.snapshot.Swap(next)
	if old != nil {
		p.live.each(func(l *live) { l.follow(next) })
	}
	return old
}

// Snapshot is the one published last.
func (p *Proxy) Snapshot() *Snapshot { return p.snapshot.Load() }

// Drain asks every connection to end soon. Those that are idle still take one
// more request.
func (p *Proxy) Drain() {
	p.draining.Store(true)
	p.conns.each(func(v *visit) { v.codec.Drain() })
}

// WaitTunnels returns when the last connection has ended that lives on without
// the goroutine it was served with first: a tunnel, or one that was parked.
// Nothing may be accepted any more.
func (p *Proxy) WaitTunnels() { p.tunnels.Wait() }

// Abort ends whatever is left.
func (p *Proxy) Abort(reason string) {
	p.live.each(func(l *live) { l.cut(reason) })
}

// live is a tunnel, or a response without an end, that outlives the
// generation it began in.
type live struct {
	place[*live]
	forward string // name of the raw port; empty for a site
	key     string // canonical host that was asked for
	backend string // as configured: what a name stands for may change
	abort   func(reason string)

	mu    sync.Mutex // held while abort runs, so that it never does after end
	ended bool
	timer *time.Timer // of the drain time; nil while the backend is in the configuration
}

// follow gives l the drain time when its backend has left its site, and
// reprieves it when the backend is back.
func (l *live) follow(next *Snapshot) {
	stays := next.reaches(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.ended:
	case stays && l.timer != nil:
		l.timer.Stop()
		l.timer = nil
	case !stays && l.timer == nil:
		l.timer = time.AfterFunc(next.Timeouts.Drain, l.expire)
	}
}

func (l *live) expire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer != nil && !l.ended {
		l.abort("its backend left the configuration")
	}
}

// cut aborts l unless it has ended.
func (l *live) cut(reason string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.abort(reason)
	}
}

// end makes everything else harmless: what l would abort may soon belong to
// another exchange.
func (l *live) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended = true; l.timer != nil {
		l.timer.Stop()
	}
}

// track registers something that outlives a generation; the returned function
// ends that.
func (p *Proxy) track(l *live) (done func()) {
	p.live.add(l)
	l.follow(p.Snapshot()) // the backend may have left between the routing and now
	return func() {
		p.live.remove(l)
		l.end()
	}
}
