package server

import (
	"context"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"usher/config"
	"usher/proxy/upstream"
	"usher/telemetry"
	certs "usher/tls"
)

// Result is what came of one reload.
type Result struct {
	At         time.Time
	Generation uint64 // that serves now
	Refused    string // why the file was not taken; empty when it was
	Problems   []config.Problem
	Added      []string // hosts
	Removed    []string
	Changed    []string
}

// Reload loads the file and, unless it is refused, publishes it. Force takes a
// file that looks half written. Reloads wait for each other.
func (s *Server) Reload(ctx context.Context, force bool) Result {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	r := s.reload(ctx, force)
	s.last.Store(&r)
	if w := s.world.Load(); w != nil {
		r.Generation = w.snapshot.Generation
	}
	s.report(&r)
	return r
}

func (s *Server) reload(ctx context.Context, force bool) (r Result) {
	r.At = time.Now()
	if s.draining.Load() {
		r.Refused = "usher is stopping"
		return r
	}
	conf, problems := s.loader.Load(s.options.File)
	r.Problems = problems
	if conf == nil {
		r.Refused = refusal(problems)
		return r
	}
	old := s.world.Load()
	if old != nil && !force {
		if r.Refused = lostSites(old.config, conf); r.Refused != "" {
			return r
		}
	}
	d, err := s.apply(ctx, conf, old)
	if err != nil {
		r.Refused = err.Error()
		return r
	}
	next := s.world.Load()
	r.Added, r.Removed, r.Changed = d.added, d.removed, d.changed
	if old != nil { // else it is all of them, as they stand in the file
		slices.Sort(r.Added)
	}
	slices.Sort(r.Removed)
	slices.Sort(r.Changed)
	r.Changed = append(r.Changed, sections(old, next)...)
	compareForwards(&r, old, next)
	return r
}

// sections are the parts of the file beside sites whose values changed.
func sections(old, next *world) (changed []string) {
	if old == nil {
		return nil
	}
	a, b := old.config, next.config
	for _, s := range []struct {
		name          string
		before, after any
	}{
		{"email", a.Email, b.Email}, {"[listen]", a.Listen, b.Listen}, {"[admin]", a.Admin, b.Admin},
		{"[metrics]", a.Metrics, b.Metrics}, {"[log]", a.Log, b.Log}, {"[acme]", a.ACME, b.ACME},
		{"[timeouts]", a.Timeouts, b.Timeouts},
	} {
		if !reflect.DeepEqual(s.before, s.after) {
			changed = append(changed, s.name)
		}
	}
	return changed
}

// refusal is the first problem that concerns the whole file.
func refusal(problems []config.Problem) string {
	for _, p := range problems {
		if p.Site == "" {
			return p.Error()
		}
	}
	return "the configuration cannot be used"
}

// apply opens, builds and publishes. Until the publication everything may
// fail and nothing has changed.
func (s *Server) apply(ctx context.Context, conf *config.Config, old *world) (*delta, error) {
	if old != nil && old.config.StateDir != conf.StateDir {
		return nil, fmt.Errorf("state_dir cannot change from %q to %q while usher runs: restart it", old.config.StateDir, conf.StateDir)
	}
	fresh, err := s.listeners.open(conf)
	if err != nil {
		return nil, err
	}
	if err := s.control.open(conf); err != nil {
		s.listeners.discard(fresh)
		return nil, err
	}
	if err := s.quic.open(&conf.Listen, s.listeners.bindAs(fresh)); err != nil {
		s.listeners.discard(fresh)
		s.control.cancel()
		return nil, err
	}
	if err := s.forwards.open(conf); err != nil {
		s.listeners.discard(fresh)
		s.control.cancel()
		s.quic.cancel()
		return nil, err
	}
	next, d := s.build(conf, old, fresh)
	next.loaded = time.Now()
	err = s.access.Configure(conf.Log.Access, conf.Log.Query)
	if err == nil {
		// Last, since ACME works with the fresh listeners from here on.
		err = s.certs.Apply(s.certOptions(conf, fresh), d.wants)
	}
	if err != nil {
		d.plan.Discard()
		s.listeners.discard(fresh)
		s.control.cancel()
		s.quic.cancel()
		s.forwards.cancel()
		return nil, err
	}
	s.level.Set(conf.Log.Level)
	s.fleet.Apply(next.specs())
	s.world.Store(next)
	s.proxy.Publish(next.snapshot)
	s.listeners.adopt(ctx, conf, fresh)
	s.control.adopt(ctx)
	s.quic.adopt(ctx, &conf.Listen)
	s.forwards.adopt(ctx, conf)
	for _, p := range d.dropped {
		p.Retire()
	}
	return d, nil
}

func (s *Server) build(conf *config.Config, old *world, fresh []*listener) (*world, *delta) {
	set := s.pools
	if old != nil {
		set = old.snapshot.Pools
	}
	b := builder{
		conf: conf, old: old, plan: set.Plan(), own: s.own, ownUDP: s.forwards.own, metrics: s.metrics, port: s.publicPort(conf, fresh),
		fleet: s.fleet, addressed: s.addressed, movedVMs: movedVMs(old, conf, s.addressed), stickyKey: s.stickyKey,
	}
	return b.build(), b.delta
}

// publicPort is the port that redirects name; where the first https listener
// asked for any port, it is the one that it got.
func (s *Server) publicPort(conf *config.Config, fresh []*listener) uint16 {
	if p := conf.Listen.PublicHTTPSPort; p != 0 {
		return uint16(p)
	}
	if a := s.listeners.addresses(telemetry.HTTPS, fresh, conf); len(a) > 0 {
		return a[0].Port()
	}
	return 443
}

func (s *Server) certOptions(c *config.Config, fresh []*listener) certs.Options {
	o := certs.Options{
		StateDir: c.StateDir, Email: c.Email, Log: s.log,
		HTTPAddrs: s.listeners.addresses(telemetry.HTTP, fresh, c),
		TLSAddrs:  s.listeners.addresses(telemetry.HTTPS, fresh, c),
	}
	for _, i := range c.ACME.Issuers {
		o.Issuers = append(o.Issuers, certs.Issuer{Directory: i.Directory, CAFile: i.CAFile, EABKeyID: i.EABKeyID, EABKey: i.EABKey})
	}
	return o
}

// report says in the log and the metrics what came of a reload.
func (s *Server) report(r *Result) {
	w := s.world.Load()
	if w == nil {
		return // it could not start, and Run says why
	}
	for _, p := range r.Problems {
		s.log.Warn().Str("site", p.Site).Msg(p.Error())
	}
	if r.Refused != "" {
		s.metrics.ReloadRefused(len(r.Problems))
		s.log.Error().Str("reason", r.Refused).Msg("configuration refused; the running one serves on")
		return
	}
	faulty := 0
	for _, b := range w.sites {
		if b.fault != "" {
			faulty++
			s.log.Warn().Str("site", b.conf.Host).Bool("stale", b.stale).Str("fault", b.fault).Msg("site is faulty")
		}
	}
	s.metrics.Reloaded(r.At, w.snapshot.Generation, len(w.sites), faulty, len(r.Problems))
	s.metrics.KeepSites(func(host string) bool { return w.sites[host] != nil || w.snapshot.Forwards[host] != nil })
	s.log.Info().Uint64("generation", w.snapshot.Generation).Int("sites", len(w.sites)).Int("faulty", faulty).
		Int("added", len(r.Added)).Int("removed", len(r.Removed)).Int("changed", len(r.Changed)).
		Dur("took", time.Since(r.At)).Msg("configuration is live")
}

// own is what upstream asks about addresses that may not be dialed.
func ownOf(l *listeners) *upstream.Own {
	return &upstream.Own{Has: func(a netip.AddrPort) bool { return l.has(a) }}
}
