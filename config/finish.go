package config

import (
	"fmt"
	"strings"
)

// finish checks what belongs together and fills in what depends on it. A key of
// [defaults] that does not suit the site is passed over; a key of its own is a
// fault.
func (b *builder) finish(s *Site, t *table) {
	if len(s.To) == 0 {
		if !t.has("to") {
			b.faultAt(s, t, "to", "to is missing: the backend that requests go to")
		}
		b.withoutBackend(s, t, t.values["to"])
		return
	}
	if s.Passthrough() {
		b.finishPassthrough(s, t)
		return
	}
	to, all := schemesOf(s.To), schemesOf(s.To)
	for _, p := range s.Paths {
		all |= schemesOf(p.To)
	}
	switch {
	case to.has(Passthrough):
		b.faultAt(s, t, "to", mixed)
	case all.has(Passthrough):
		b.faultAt(s, t, "paths", mixed)
	default:
		b.finishTerminated(s, t, all)
	}
}

const mixed = "a passthrough:// backend with others in one site: a site is either all passthrough or all terminated"

// faultAt reports a fault of a site at one of its keys, or at its name.
func (b *builder) faultAt(s *Site, t *table, key, format string, args ...any) {
	if t.has(key) {
		b.report.add(s.Host, t.at(key), format, args...)
		return
	}
	b.report.problems = append(b.report.problems, Problem{s.Pos, s.Host, fmt.Sprintf(format, args...)})
}

// unsuitable reports those of a site's own keys that would do nothing.
func (b *builder) unsuitable(s *Site, t *table, reason string, keys ...string) {
	for _, key := range keys {
		if t.has(key) {
			b.report.add(s.Host, t.at(key), "%s %s", key, reason)
		}
	}
}

func (b *builder) finishPassthrough(s *Site, t *table) {
	if schemesOf(s.To) != bit(Passthrough) {
		b.faultAt(s, t, "to", mixed)
	}
	b.unsuitable(s, t, "cannot be used with passthrough://, where requests stay encrypted", "paths")
	b.unsuitable(s, t, "cannot be used with passthrough://, where the VM does the TLS",
		"certificate", "hsts", "server_name", "ca_file", "insecure", "alpn")
	for _, backend := range s.To {
		if b.env.own(backend) {
			b.faultAt(s, t, "to", "%q is one of our own listeners", backend)
		}
	}
	s.Paths, s.Certificate, s.CertFile, s.KeyFile = nil, "", "", ""
	s.ServerName, s.CAFile, s.Insecure, s.ALPN, s.HSTS = "", "", false, "", false
	if s.HTTPPort == 0 {
		s.HTTPPort = 80
	}
	b.unsuitable(s, t, "cannot be used with passthrough://, where requests stay encrypted",
		"sticky", "adaptive_concurrency", "error_pages", "maintenance")
	s.Sticky, s.Adaptive, s.ErrorPages, s.Maintenance = nil, false, nil, ""
	b.finishPool(s, t, bit(Passthrough))
}

func (b *builder) finishTerminated(s *Site, t *table, used schemes) {
	s.HTTPPort = 0 // of no use here, but the long form shows every key
	if !used.has(HTTPS) {
		b.unsuitable(s, t, "matters only towards an https:// backend, and the site has none",
			"server_name", "ca_file", "insecure", "alpn")
		s.ServerName, s.CAFile, s.Insecure = "", "", false
	}
	if s.ALPN == "" {
		s.ALPN = "http/1.1"
	}
	if used&^(bit(Redirect)|bit(Whoami)) == 0 {
		b.unsuitable(s, t, "matters only towards a VM, and the site has none",
			"proxy_protocol", "response_head", "connect", "hold", "tunnel_idle",
			"balance", "sticky", "slow_start", "max_conns", "queue", "queue_timeout", "adaptive_concurrency",
			"health", "ejection", "transparent", "maintenance")
		s.ProxyProtocol, s.Maintenance = "", ""
		s.withoutPool()
	} else {
		b.finishPool(s, t, used)
	}
	if s.To[0].Scheme == Redirect && strings.EqualFold(strings.TrimSuffix(s.To[0].Host, "."), s.Host) {
		b.faultAt(s, t, "to", "%q leads back to the site itself", s.To[0])
	}
	b.finishCertificate(s, t)
}

// finishCertificate fills in the certificate's default.
func (b *builder) finishCertificate(s *Site, t *table) {
	if s.Certificate == "" && t.has("certificate") { // a fault by itself
		return
	}
	var err error
	if s.Certificate, err = settledCertificate(s.Certificate, s.Host); err != nil {
		b.faultAt(s, t, "certificate", "certificate: %v", err)
	}
}
