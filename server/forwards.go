package server

import (
	"cmp"
	"context"
	"maps"
	"reflect"
	"slices"
	"sync"

	"usher/config"
	"usher/proxy"
	"usher/proxy/datagram"
	"usher/proxy/upstream"
	"usher/router"
	"usher/server/admin"
	"usher/telemetry"
	certs "usher/tls"
)

// forwardName names a raw port in logs, metrics and the snapshot.
func forwardName(protocol config.Scheme, listen string) string {
	return string(protocol) + "://" + listen
}

// forwards is the UDP side of the raw ports. Like the other listeners it is
// opened before a configuration is published and adopted afterwards. The TCP
// ports are among the listeners.
type forwards struct {
	proxy *proxy.Proxy
	relay *datagram.Relay
	own   *upstream.Own // their addresses, which no UDP forward may lead to

	mu    sync.Mutex
	bound map[string]*datagram.Listener // by address as configured
	fresh map[string]*datagram.Listener // bound for the configuration that is being applied
}

func newForwards(s *Server) (*forwards, error) {
	relay, err := datagram.New(datagram.Limits{}, new(machine).has)
	if err != nil {
		return nil, err
	}
	return &forwards{
		proxy: s.proxy, relay: relay, own: &upstream.Own{Has: relay.Owns}, bound: map[string]*datagram.Listener{},
	}, nil
}

// open binds the UDP ports that are wanted and not bound yet, and checks what
// else all raw ports need.
func (f *forwards) open(c *config.Config) (err error) {
	f.fresh = make(map[string]*datagram.Listener)
	for _, w := range c.Forwards {
		if err = transparencyFault(w.Transparent, w.Pos); err != nil {
			break
		}
		if w.Protocol != string(config.UDP) || f.bound[w.Listen] != nil {
			continue
		}
		var l *datagram.Listener
		if l, err = f.relay.Listen(w.Listen); err != nil {
			break
		}
		f.fresh[w.Listen] = l
	}
	if err != nil {
		f.cancel()
	}
	return err
}

// cancel undoes open.
func (f *forwards) cancel() {
	for _, l := range f.fresh {
		l.Close()
	}
	f.fresh = nil
}

// adopt serves what open bound and lets what is not wanted any more end.
func (f *forwards) adopt(ctx context.Context, c *config.Config) {
	f.mu.Lock()
	defer f.mu.Unlock()
	keep := make(map[string]bool)
	for _, w := range c.Forwards {
		keep[w.Listen] = keep[w.Listen] || w.Protocol == string(config.UDP)
	}
	for a, l := range f.bound {
		if !keep[a] {
			l.Close()
			delete(f.bound, a)
		}
	}
	for a, l := range f.fresh {
		f.bound[a] = l
		if err := l.Serve(ctx, f.proxy.Datagrams(forwardName(config.UDP, a))); err != nil {
			f.proxy.Log.Error().Err(err).Str("listen", a).Msg("a UDP port is not served")
		}
	}
	f.fresh = nil
}

// listening is what is bound, for the status.
func (f *forwards) listening() (all []admin.Listener) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range f.bound {
		all = append(all, admin.Listener{Kind: telemetry.UDP.String(), Address: l.Addr().String(), Connections: l.Sessions()})
	}
	slices.SortFunc(all, func(a, b admin.Listener) int { return cmp.Compare(a.Address, b.Address) })
	return all
}

// raw is what a snapshot has of the raw ports.
type raw struct {
	byName     map[string]*proxy.Forward
	challenges map[string]bool
}

// forwards builds the raw ports of a world and adds the certificates that they
// need to what is wanted. They have no faults of their own: one in the file
// refuses it, and what else they need was checked as they were opened.
func (b *builder) forwards(w *world) raw {
	out := raw{byName: make(map[string]*proxy.Forward, len(b.conf.Forwards)), challenges: make(map[string]bool)}
	wanted := make(map[string]bool) // by raw ports
	for _, c := range b.conf.Forwards {
		f := b.forward(c)
		out.byName[f.Name] = f
		for i := range c.SNI {
			s := &c.SNI[i]
			if s.Passthrough {
				continue
			}
			out.challenges[s.Host] = out.challenges[s.Host] || s.Certificate == config.CertACME
			site := w.sites[s.Host] // says which certificate the name has, if it has one
			if !wanted[s.Host] && (site == nil || !site.wants()) {
				wanted[s.Host] = true
				b.delta.wants = append(b.delta.wants, certs.Want{Host: s.Host, Kind: s.Certificate, CertFile: s.CertFile, KeyFile: s.KeyFile})
			}
		}
	}
	return out
}

func (b *builder) forward(c *config.Forward) *proxy.Forward {
	name := forwardName(config.Scheme(c.Protocol), c.Listen)
	udp := c.Protocol == string(config.UDP)
	f := &proxy.Forward{
		Name: name, TunnelIdle: c.Timeouts.TunnelIdle, Counters: b.metrics.SiteFor(name),
		ProxyHeader: udp && c.ProxyProtocol != "", Transparent: udp && c.Transparent,
	}
	if len(c.To) > 0 {
		f.Rest = &proxy.ForwardRoute{Pool: b.forwardPool(c, "", c.To)}
	}
	if len(c.SNI) == 0 {
		return f
	}
	names := make(map[string]*proxy.ForwardRoute, len(c.SNI))
	for i := range c.SNI {
		s := &c.SNI[i]
		r := &proxy.ForwardRoute{Terminate: !s.Passthrough, Pool: b.forwardPool(c, s.Host, s.To)}
		names[s.Host] = r
		f.List = append(f.List, r)
	}
	f.Names = router.NewTable(names)
	return f
}

// forwardPool is the pool of a list of backends of a raw port: that of a site
// with the same keys.
func (b *builder) forwardPool(c *config.Forward, host string, to []config.Backend) *upstream.Pool {
	spec, _ := b.spec(&config.Site{ // fails only for the trust in VMs with TLS
		Host: host, To: to,
		Settings: &config.Settings{
			ProxyProtocol: c.ProxyProtocol, Timeouts: c.Timeouts, Balance: c.Balance,
			Health: c.Health, HealthOff: c.HealthOff, NoEjection: c.NoEjection, Transparent: c.Transparent,
			SlowStart: c.SlowStart, MaxConns: c.MaxConns, Queue: c.Queue, QueueTimeout: c.QueueTimeout,
		},
	}, to)
	spec.ResponseHead, spec.Forbid = 0, b.own
	if c.Protocol == string(config.UDP) {
		spec.UDP, spec.ProxyProtocol, spec.Forbid = true, "", b.ownUDP
		for i := range spec.Addresses { // a UDP port says nothing by itself
			if h := spec.Addresses[i].Health; h != nil && h.Port == 0 {
				spec.Addresses[i].Health = nil
			}
		}
	}
	pool, _ := b.plan.Pool(spec) // likewise
	return pool
}

// compareForwards adds the raw ports that came, went or changed to a result.
func compareForwards(r *Result, old, next *world) {
	now := configuredForwards(next)
	before := make(map[string]*config.Forward)
	if old != nil {
		before = configuredForwards(old)
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		b := before[name]
		switch {
		case b == nil:
			r.Added = append(r.Added, name)
		case !sameForward(b, now[name]):
			r.Changed = append(r.Changed, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if now[name] == nil {
			r.Removed = append(r.Removed, name)
		}
	}
}

func configuredForwards(w *world) map[string]*config.Forward {
	all := make(map[string]*config.Forward, len(w.config.Forwards))
	for _, f := range w.config.Forwards {
		all[forwardName(config.Scheme(f.Protocol), f.Listen)] = f
	}
	return all
}

// sameForward compares two forms wherever in the file they stand.
func sameForward(a, b *config.Forward) bool {
	x, y := *a, *b
	x.Pos, y.Pos = config.Position{}, config.Position{}
	x.SNI, y.SNI = slices.Clone(x.SNI), slices.Clone(y.SNI)
	for _, list := range [][]config.ForwardSNI{x.SNI, y.SNI} {
		for i := range list {
			list[i].Pos = config.Position{}
		}
	}
	return reflect.DeepEqual(x, y)
}
