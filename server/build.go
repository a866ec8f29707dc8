package server

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"reflect"
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
	wants    []certs.Want
	loaded   time.Time
	h3       *h3.Config
	plan     *upstream.Plan   // until it is published
	dropped  []*upstream.Pool // of the generation before, to be retired

	addressed map[string]bool // addresses that are VMs by themselves

	added, changed []string // hosts, against the generation before
}

// built is a site with its origin.
type built struct {
	conf  *config.Site
	site  *proxy.Site
	want  *certs.Want  // nil for passthrough and where no certificate can be had
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
	w := &world{config: b.conf, vms: b.conf.VMs, addressed: b.addressed, sites: make(map[string]*built, len(b.conf.Sites)), wants: make([]certs.Want, 0, len(b.conf.Sites))}
	table := make(map[string]*proxy.Site, len(b.conf.Sites))
	for _, c := range b.conf.Sites {
		before := b.before(c.Host)
		s := b.one(c, before)
		w.sites[c.Host] = s
		switch {
		case before == nil:
			w.added = append(w.added, c.Host)
		case before.site != s.site || before.fault != s.fault:
			w.changed = append(w.changed, c.Host)
		}
		table[c.Host] = s.site
		if s.want != nil {
			w.wants = append(w.wants, *s.want)
		}
	}
	b.keepVMs(w)
	raw := b.forwards(w)
	pools, dropped := b.plan.Done()
	w.plan, w.dropped = b.plan, dropped
	w.snapshot = b.snapshot(router.NewTable(table), pools)
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

// before is the site of a host in the generation before, or nil.
func (b *builder) before(host string) *built {
	if b.old == nil {
		return nil
	}
	return b.old.sites[host]
}

// one builds a site, takes it over unchanged, or quarantines it.
func (b *builder) one(c *config.Site, before *built) *built {
	if before != nil && before.fault == "" && (before.conf == c || same(before.conf, c)) && !b.onMovedVM(c) {
		before.site.EachPool(b.plan.Keep)
		return &built{conf: c, form: c, site: before.site, want: before.want}
	}
	s := &built{conf: c, form: c}
	fault := faultOf(c)
	if fault == "" {
		var err error
		if s.site, err = b.site(c); err == nil {
			s.want = wantOf(c)
			return s
		}
		fault = err.Error()
	}
	return b.quarantine(s, before, fault)
}

// onMovedVM reports whether a site has a VM of which something else changed
// than its address, which stands in the site itself.
func (b *builder) onMovedVM(c *config.Site) bool {
	if len(b.movedVMs) == 0 {
		return false
	}
	on := func(list []config.Backend) bool {
		return slices.ContainsFunc(list, func(k config.Backend) bool { return b.movedVMs[cmp.Or(k.VM, k.Host)] })
	}
	return on(c.To) || slices.ContainsFunc(c.Paths, func(p config.Path) bool { return on(p.To) })
}

// movedVMs are the VMs that two configurations describe differently, and the
// addresses that are VMs only now.
func movedVMs(old *world, conf *config.Config, addressed map[string]bool) map[string]bool {
	moved := make(map[string]bool)
	if old == nil {
		return moved
	}
	for host := range addressed {
		moved[host] = !old.addressed[host]
	}
	for name, a := range old.config.VMs {
		b := conf.VMs[name]
		if a.Pos = b.Pos; !reflect.DeepEqual(a, b) {
			moved[name] = true
		}
	}
	return moved
}

// keepVMs keeps the VMs of sites in their last good form that are in the
// configuration no more: they are drained and started as before.
func (b *builder) keepVMs(w *world) {
	for _, s := range w.sites {
		if !s.stale {
			continue
		}
		s.eachBackend(func(k config.Backend) bool {
			v, kept := b.old.vms[k.VM]
			if _, has := w.vms[k.VM]; kept && !has {
				if len(w.vms) == len(b.conf.VMs) {
					w.vms = maps.Clone(w.vms)
				}
				w.vms[k.VM] = v
			}
			return true
		})
	}
}

func faultOf(c *config.Site) string {
	if c.Fault == nil {
		return ""
	}
	return c.Fault.Error()
}

// quarantine keeps the last good form of a faulty site, or makes one that
// answers 503.
func (b *builder) quarantine(s, before *built, fault string) *built {
	s.fault = fault
	if before != nil && before.site.Fault == "" {
		before.site.EachPool(b.plan.Keep)
		s.site, s.want, s.stale, s.form = before.site, before.want, true, before.form
		return s
	}
	if before != nil && before.site.Fault == fault && before.site.Passthrough == s.conf.Passthrough() {
		s.site, s.want = before.site, before.want
		return s
	}
	s.site = &proxy.Site{Host: s.conf.Host, Fault: fault, Passthrough: s.conf.Passthrough(), Counters: b.metrics.SiteFor(s.conf.Host)}
	if s.conf.Certificate != "" {
		s.site.OwnsChallenges = s.conf.Certificate == config.CertACME
		s.want = wantOf(s.conf)
	}
	return s
}

func wantOf(c *config.Site) *certs.Want {
	if c.Passthrough() {
		return nil
	}
	return &certs.Want{Host: c.Host, Kind: c.Certificate, CertFile: c.CertFile, KeyFile: c.KeyFile}
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
