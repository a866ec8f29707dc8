package server

import (
	"cmp"
	"maps"
	"reflect"
	"slices"

	"usher/config"
	"usher/proxy"
	"usher/router"
	certs "usher/tls"
)

// sites builds all sites. There may be very many, of which most are as they
// were: then the maps of the generation before are copied and changed.
func (b *builder) sites(w *world) *router.Table[*proxy.Site] {
	had := 0
	if b.old == nil {
		w.sites = make(map[string]*built, len(b.conf.Sites))
	} else {
		w.sites, had = maps.Clone(b.old.sites), len(b.old.sites)
	}
	d, set, kept := b.delta, make(map[string]*proxy.Site, max(0, len(b.conf.Sites)-had)), 0
	for _, c := range b.conf.Sites {
		before := w.sites[c.Host]
		s := b.one(c, before)
		switch {
		case before == nil:
			d.added = append(d.added, c.Host)
		case before.site != s.site || before.fault != s.fault:
			d.changed = append(d.changed, c.Host)
		}
		if before != nil {
			kept++
		}
		if before != s {
			w.sites[c.Host] = s
		}
		if before == nil || before.site != s.site {
			set[c.Host] = s.site
		}
		if s.stale {
			b.keepVMs(w, s)
		}
		if s.wants() {
			d.wants = append(d.wants, wantOf(s.form))
		}
	}
	if kept < had {
		b.remove(w)
	}
	if b.old == nil {
		return router.NewTable(set)
	}
	return b.old.snapshot.Sites.Changed(set, d.removed)
}

// remove takes out the sites that are in the configuration no more.
func (b *builder) remove(w *world) {
	have := make(map[string]bool, len(b.conf.Sites))
	for _, c := range b.conf.Sites {
		have[c.Host] = true
	}
	for host := range b.old.sites {
		if !have[host] {
			b.delta.removed = append(b.delta.removed, host)
			delete(w.sites, host)
		}
	}
}

// one builds a site, takes it over unchanged, or quarantines it.
func (b *builder) one(c *config.Site, before *built) *built {
	if before != nil && before.fault == "" && (before.conf == c || same(before.conf, c)) && !b.onMovedVM(c) {
		before.site.EachPool(b.plan.Keep)
		if before.conf == c {
			return before
		}
		return &built{conf: c, form: c, site: before.site}
	}
	s := &built{conf: c, form: c}
	fault := faultOf(c)
	if fault == "" {
		var err error
		if s.site, err = b.site(c); err == nil {
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

// keepVMs keeps the VMs of a site in its last good form that are in the
// configuration no more: they are drained and started as before.
func (b *builder) keepVMs(w *world, s *built) {
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
		s.site, s.stale, s.form = before.site, true, before.form
		return s
	}
	if before != nil && before.site.Fault == fault && before.site.Passthrough == s.conf.Passthrough() &&
		before.conf.Certificate == s.conf.Certificate {
		s.site = before.site
		return s
	}
	s.site = &proxy.Site{Host: s.conf.Host, Fault: fault, Passthrough: s.conf.Passthrough(), Counters: b.metrics.SiteFor(s.conf.Host)}
	if s.conf.Certificate != "" {
		s.site.OwnsChallenges = s.conf.Certificate == config.CertACME
	}
	return s
}

// wants reports whether a site has a certificate. None has one of passthrough,
// and of those with a fault where it is not known which.
func (s *built) wants() bool { return s.form.Certificate != "" && !s.form.Passthrough() }

func wantOf(c *config.Site) certs.Want {
	return certs.Want{Host: c.Host, Kind: c.Certificate, CertFile: c.CertFile, KeyFile: c.KeyFile}
}
