package server

import (
	"fmt"
	"os"
	"slices"
	"time"

	"usher/config"
	"usher/proxy"
	"usher/proxy/h1"
	"usher/proxy/h2"
	"usher/proxy/h3"
	"usher/proxy/message"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
	certs "usher/tls"
	"usher/vm"
)

// drainGrace is how long an idle connection may still send one more request
// when usher stops.
const drainGrace = time.Second

// world is one generation: the snapshot with what the control plane remembers
// of how it was made. It is never changed once built.
type world struct {
	config   *config.Config
	snapshot *proxy.Snapshot
	sites    map[string]*built    // by host
	vms      map[string]config.VM // those of the configuration, and what sites in their last good form still have
	loaded   time.Time
	h3       *h3.Config

	addressed map[string]bool // addresses that are VMs by themselves
}

// delta is how a world differs from the one before, and what is needed to
// publish it. Nothing of it is kept.
type delta struct {
	plan    *upstream.Plan
	dropped []*upstream.Pool // to be retired
	wants   []certs.Want

	added, changed, removed []string // hosts
}

// built is a site with its origin.
type built struct {
	conf  *config.Site
	site  *proxy.Site
	fault string       // of conf; empty when the site is what conf says
	stale bool         // fault, and site is the last good form
	form  *config.Site // what site was built from: conf, or its last good form
}

// builder makes a world from a configuration and the world before. It changes
// nothing of the latter.
type builder struct {
	conf    *config.Config
	old     *world
	plan    *upstream.Plan
	delta   *delta
	own     *upstream.Own
	ownUDP  *upstream.Own
	metrics *telemetry.Metrics
	port    uint16 // what redirects name

	fleet     *vm.Fleet
	addressed map[string]bool // addresses that are VMs by themselves
	movedVMs  map[string]bool // by name, against old
	stickyKey []byte
}

// build translates a whole configuration. It cannot fail: a site that cannot
// be built is quarantined.
func (b *builder) build() *world {
	w := &world{config: b.conf, vms: b.conf.VMs, addressed: b.addressed}
	b.delta = &delta{plan: b.plan, wants: make([]certs.Want, 0, len(b.conf.Sites))}
	table := b.sites(w)
	raw := b.forwards(w)
	var pools *upstream.Set
	pools, b.delta.dropped = b.plan.Done()
	w.snapshot = b.snapshot(table, pools)
	w.snapshot.Forwards, w.snapshot.Challenges = raw.byName, raw.challenges
	w.h3 = &h3.Config{
		RequestHead: b.conf.Timeouts.RequestHead, KeepAlive: b.conf.Timeouts.KeepAlive, Handshake: b.conf.Timeouts.Handshake,
		DrainGrace: drainGrace, Timeouts: w.snapshot.H1.Timeouts,
	}
	return w
}

func (b *builder) snapshot(table *router.Table[*proxy.Site], pools *upstream.Set) *proxy.Snapshot {
	c, t := b.conf, b.conf.Timeouts
	s := &proxy.Snapshot{
		Generation: 1, Sites: table, Pools: pools,
		Timeouts: proxy.Timeouts{ClientHello: t.ClientHello, Handshake: t.Handshake, Drain: t.Drain},
		H1: &h1.Config{
			RequestHead: t.RequestHead, KeepAlive: t.KeepAlive, DrainGrace: drainGrace,
			Timeouts: message.Timeouts{RequestBody: t.RequestBody, ResponseWrite: t.ResponseWrite},
		},
		H2: &h2.Config{
			RequestHead: t.RequestHead, KeepAlive: t.KeepAlive, DrainGrace: drainGrace,
			Timeouts: message.Timeouts{RequestBody: t.RequestBody, ResponseWrite: t.ResponseWrite},
		},
		TrustedProxies:    c.Listen.TrustedProxies,
		ProxyProtocolFrom: c.Listen.ProxyProtocolFrom,
		PublicHTTPSPort:   b.port,
	}
	if c.Listen.HTTP3 && len(c.Listen.HTTPS) > 0 {
		s.AltSvc = fmt.Appendf(nil, `h3=":%d"; ma=86400`, b.port)
	}
	if b.old != nil {
		s.Generation = b.old.snapshot.Generation + 1
	}
	return s
}

// site builds a site that has no fault of its own.
func (b *builder) site(c *config.Site) (*proxy.Site, error) {
	t := c.Timeouts
	s := &proxy.Site{
		Host: c.Host, Passthrough: c.Passthrough(),
		OwnsChallenges: c.Certificate == config.CertACME,
		PlainHTTP:      plainHTTP(c.HTTP),
		HSTS:           c.HSTS,
		Timeouts: proxy.SiteTimeouts{
			Timeouts:   message.Timeouts{RequestBody: t.RequestBody, ResponseWrite: t.ResponseWrite},
			TunnelIdle: t.TunnelIdle,
		},
		Counters: b.metrics.SiteFor(c.Host),
	}
	if err := transparencyFault(c.Transparent, c.Pos); err != nil {
		return s, err
	}
	var err error
	if s.ErrorPages, s.Maintenance, err = pages(c); err != nil {
		return s, err
	}
	if s.Passthrough {
		err = b.passthrough(s, c)
	} else {
		err = b.routes(s, c)
	}
	return s, err
}

// pages reads the pages that a site has for answers of our own.
func pages(c *config.Site) (byStatus map[int][]byte, maintenance []byte, err error) {
	for status, file := range c.ErrorPages {
		if byStatus == nil {
			byStatus = make(map[int][]byte, len(c.ErrorPages))
		}
		if byStatus[status], err = os.ReadFile(file); err != nil {
			return nil, nil, err
		}
	}
	if c.Maintenance != "" {
		maintenance, err = os.ReadFile(c.Maintenance)
	}
	return byStatus, maintenance, err
}

func plainHTTP(s string) proxy.PlainHTTP {
	switch s {
	case "forward":
		return proxy.ForwardPlain
	case "refuse":
		return proxy.RefusePlain
	}
	return proxy.RedirectPlain
}

// passthrough plans the two pools of a passthrough site: its TLS port and its
// plain port.
func (b *builder) passthrough(s *proxy.Site, c *config.Site) error {
	spec, err := b.spec(c, c.To)
	if err != nil {
		return err
	}
	spec.Forbid = b.own
	if err := b.ownAddress(c, spec.Addresses); err != nil {
		return err
	}
	plain := spec
	plain.Addresses = slices.Clone(spec.Addresses)
	for i := range plain.Addresses {
		a := &plain.Addresses[i]
		a.Port = c.HTTPPort
		if a.Health != nil && a.Health.Port == 0 { // the health of a VM is that of its TLS port
			a.Health = withPort(a.Health, c.To[i].Port)
		}
	}
	if s.Pool, err = b.plan.Pool(spec); err == nil {
		s.Plain, err = b.plan.Pool(plain)
	}
	return err
}

// routes plans the pools of a terminated site.
func (b *builder) routes(s *proxy.Site, c *config.Site) (err error) {
	if s.Rest, err = b.route(c, c.To); err != nil || len(c.Paths) == 0 {
		return err
	}
	prefixes := make(map[string]*proxy.Route, len(c.Paths))
	for _, p := range c.Paths {
		r, err := b.route(c, p.To)
		if err != nil {
			return err
		}
		prefixes[p.Prefix] = r
		s.Below = append(s.Below, r)
	}
	s.Paths = router.NewPaths(prefixes, s.Rest)
	return nil
}

func (b *builder) route(c *config.Site, to []config.Backend) (*proxy.Route, error) {
	switch to[0].Scheme {
	case config.Redirect:
		return &proxy.Route{Redirect: to[0].Host}, nil
	case config.Whoami:
		return &proxy.Route{Whoami: true}, nil
	}
	spec, err := b.spec(c, to)
	if err != nil {
		return nil, err
	}
	pool, err := b.plan.Pool(spec)
	if err != nil {
		return nil, fmt.Errorf("%s:%d:%d: %q: %w", c.Pos.File, c.Pos.Line, c.Pos.Column, c.CAFile, err)
	}
	return &proxy.Route{Pool: pool}, nil
}
