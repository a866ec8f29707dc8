package server

import (
	"cmp"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"usher/config"
	"usher/proxy/upstream"
	"usher/proxy/upstream/health"
)

// spec is the pool of a list of backends of a site.
func (b *builder) spec(c *config.Site, to []config.Backend) (upstream.Spec, error) {
	s := upstream.Spec{
		Addresses:     make([]upstream.Address, len(to)),
		HTTP2:         speaksHTTP2(c, to[0].Scheme),
		ProxyProtocol: c.ProxyProtocol, Transparent: c.Transparent,
		Connect: c.Timeouts.Connect, Hold: c.Timeouts.Hold, ResponseHead: c.Timeouts.ResponseHead,
		Balance: balanceOf(c.Balance), SlowStart: c.SlowStart,
		Queue: c.Queue, QueueTimeout: c.QueueTimeout,
		Adaptive: c.Adaptive, NoEjection: c.NoEjection,
	}
	if c.Sticky != nil {
		s.Sticky = &upstream.Sticky{Cookie: c.Sticky.Cookie, TTL: c.Sticky.TTL, Key: b.stickyKey}
	}
	if to[0].Scheme == config.HTTPS {
		var err error
		if s.TLS, err = backendTLS(c); err != nil {
			return s, err
		}
	}
	for i, a := range to {
		s.Addresses[i] = b.address(a, c.MaxConns)
		s.Addresses[i].Health = b.check(c, to, a, s.TLS)
		if s.Addresses[i].Health == nil && !c.HealthOff && namesMany(a, s.Addresses[i].Host) {
			s.Addresses[i].Health, s.Addresses[i].IfMany = defaultCheck(), true
		}
	}
	return s, nil
}

func speaksHTTP2(c *config.Site, scheme config.Scheme) bool {
	return scheme == config.H2C || scheme == config.HTTPS && c.ALPN == "h2"
}

// address is one backend; its own limit comes before that of its site, and that
// of its VM counts for all sites together.
func (b *builder) address(a config.Backend, siteLimit int) upstream.Address {
	out := upstream.Address{
		Host: a.Host, Port: a.Port, Unix: a.Unix, SRV: a.SRV,
		Weight: a.Weight, Backup: a.Backup, MaxConns: cmp.Or(a.MaxConns, siteLimit),
	}
	if a.Weight == 0 {
		out.Weight = -1
	}
	if out.VM = b.machine(a); a.VM == "" {
		return out
	}
	v := b.conf.VMs[a.VM]
	out.VMConns = v.MaxConns
	if v.Discover != nil {
		out.Host = ""
	}
	return out
}

// check is how a backend is checked: as its site says, else as its VM, else by
// connecting to it where there is more than one to choose from, or somebody who
// would restart it.
func (b *builder) check(c *config.Site, to []config.Backend, a config.Backend, t *upstream.TLS) *health.Check {
	v := b.conf.VMs[a.VM] // the zero VM for a backend without a name
	switch {
	case c.HealthOff:
		return nil
	case c.Health != nil:
		return siteCheck(c, *c.Health, a.Scheme, t)
	case v.Health != nil:
		return siteCheck(c, *v.Health, a.Scheme, t)
	case len(to) > 1 || a.SRV || v.Restart != nil:
		return defaultCheck()
	}
	return nil
}

// namesMany reports whether a backend may come to stand for several addresses:
// it is a DNS name, or discovered.
func namesMany(a config.Backend, host string) bool {
	_, err := netip.ParseAddr(host)
	return a.Unix == "" && err != nil
}

// defaultCheck is a TCP connect every 2 s.
func defaultCheck() *health.Check {
	return &health.Check{Kind: health.TCP, Interval: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}
}

// siteCheck is a check that speaks to a VM as the site does.
func siteCheck(c *config.Site, h config.Health, scheme config.Scheme, t *upstream.TLS) *health.Check {
	k := plainCheck(h)
	k.Proxy = c.ProxyProtocol
	if h.Type == "" && c.Passthrough() {
		k.Kind = health.TLS
	}
	if k.Host == "" && !strings.HasPrefix(c.Host, "*") {
		k.Host = c.Host
	}
	if k.Kind == health.TCP {
		k.Host = ""
		return k
	}
	k.HTTP2 = k.Kind == health.HTTP && speaksHTTP2(c, scheme)
	if t != nil && k.Kind != health.TLS {
		k.Secure, k.Insecure, k.RootsPEM = true, t.Insecure, string(t.RootsPEM)
		k.ServerName = cmp.Or(t.ServerName, k.Host)
	}
	return k
}

// plainCheck is what a table of the file says by itself.
func plainCheck(h config.Health) *health.Check {
	kind := health.TCP
	switch h.Type {
	case config.HealthHTTP:
		kind = health.HTTP
	case config.HealthGRPC:
		kind = health.GRPC
	case config.HealthTLS:
		kind = health.TLS
	}
	return &health.Check{
		Kind: kind, Port: h.Port, Interval: h.Interval, Timeout: h.Timeout, Rise: h.Rise, Fall: h.Fall,
		Method: h.Method, Path: h.Path, Host: h.Host, Service: h.Service, Status: h.Status, Body: h.Body,
	}
}

// withPort is the same check at another port.
func withPort(c *health.Check, port uint16) *health.Check {
	at := *c
	at.Port = port
	return &at
}

func balanceOf(b config.Balance) upstream.Balance {
	return upstream.Balance{Method: methodOf(b.Method), Name: b.Name}
}

func methodOf(name string) upstream.Method {
	switch name {
	case config.BalanceRoundRobin:
		return upstream.RoundRobin
	case config.BalanceLeastConn:
		return upstream.LeastConn
	case config.BalanceIPHash:
		return upstream.IPHash
	case config.BalanceHeader:
		return upstream.HeaderHash
	case config.BalanceCookie:
		return upstream.CookieHash
	}
	return upstream.Random2
}

// backendTLS says how https VMs are verified: for the name that the site
// gives, else its hostname, else (a wildcard) the host of each request.
func backendTLS(c *config.Site) (*upstream.TLS, error) {
	t := &upstream.TLS{ServerName: c.ServerName, Insecure: c.Insecure}
	if t.ServerName == "" && !strings.HasPrefix(c.Host, "*") {
		t.ServerName = c.Host
	}
	if c.CAFile == "" {
		return t, nil
	}
	var err error
	t.RootsPEM, err = os.ReadFile(c.CAFile)
	return t, err
}

// ownAddress is the fault of a passthrough site whose VM is usher itself.
func (b *builder) ownAddress(c *config.Site, all []upstream.Address) error {
	for _, a := range all {
		if ip, err := netip.ParseAddr(a.Host); err == nil && b.own.Has(netip.AddrPortFrom(ip.Unmap(), a.Port)) {
			return fmt.Errorf("%s:%d:%d: the backend %s is one of usher's own listeners", c.Pos.File, c.Pos.Line, c.Pos.Column, a)
		}
	}
	return nil
}
