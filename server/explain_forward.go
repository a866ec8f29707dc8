package server

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"usher/config"
	"usher/router"
)

// forward explains what a connection to a raw port meets: the URL is
// tcp://HOST:PORT or udp://HOST:PORT, and the host is the server name where
// the port looks at it.
func (e *explainer) forward() error {
	port := e.url.Port()
	if port == "" {
		return fmt.Errorf("the URL %q needs a port", e.url)
	}
	f := e.findForward(port)
	if f == nil {
		e.say("listener", "none: no [[forward]] of %s has port %s", e.url.Scheme, port)
		e.say("answer", "none: no connection can be made")
		return nil
	}
	e.say("listener", "%s (%s), %s:%d", f.Listen, e.url.Scheme, f.Pos.File, f.Pos.Line)
	to := e.forwardRoute(f)
	if to == nil {
		return nil
	}
	e.say("backend", "%s, every byte", join(to))
	if f.ProxyProtocol != "" {
		e.say("header", "PROXY %s tells the VM who the client is", f.ProxyProtocol)
	}
	if f.Protocol == string(config.TCP) {
		e.care(&config.Site{To: to, Settings: &config.Settings{
			Timeouts: f.Timeouts, Balance: f.Balance, Health: f.Health, HealthOff: f.HealthOff, NoEjection: f.NoEjection,
			SlowStart: f.SlowStart, MaxConns: f.MaxConns, Queue: f.Queue, QueueTimeout: f.QueueTimeout,
		}}, to)
	}
	if f.Transparent {
		e.transparent(to)
	}
	return nil
}

// findForward is the raw port that the URL leads to: one of its very address
// before one of all addresses.
func (e *explainer) findForward(port string) (found *config.Forward) {
	for _, f := range e.conf.Forwards {
		host, p, _ := net.SplitHostPort(f.Listen)
		switch {
		case p != port || f.Protocol != e.url.Scheme:
		case host == e.url.Hostname():
			return f
		case anywhere(host) || !router.IsIP([]byte(e.host)):
			found = cmp.Or(found, f)
		}
	}
	return found
}

// anywhere reports whether a listener's host stands for all addresses.
func anywhere(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// forwardRoute says by which route a connection goes, and where to; nil when it
// is refused.
func (e *explainer) forwardRoute(f *config.Forward) []config.Backend {
	if len(f.SNI) == 0 {
		e.say("mode", "raw: %s", map[string]string{"tcp": "a tunnel", "udp": "a session for each client address and port"}[f.Protocol])
		return f.To
	}
	names := make(map[string]*config.ForwardSNI, len(f.SNI))
	for i := range f.SNI {
		names[f.SNI[i].Host] = &f.SNI[i]
	}
	key := []byte(e.host)
	if router.IsIP(key) {
		key = nil
	}
	s, ok := router.NewTable(names).Lookup(key)
	switch {
	case !ok && len(f.To) == 0:
		e.say("answer", "alert unrecognized_name: sni has no %s, and there is no `to`", strconv.Quote(e.host))
		return nil
	case !ok:
		e.say("mode", "raw: sni has no %q, and `to` takes the rest", e.host)
		return f.To
	case s.Passthrough:
		e.say("mode", "passthrough by server name %q: the VM terminates TLS with its own certificate", s.Host)
		return s.To
	}
	e.site = &config.Site{Host: s.Host, To: s.To, Settings: &config.Settings{Certificate: s.Certificate, CertFile: s.CertFile, KeyFile: s.KeyFile}}
	e.say("mode", "terminate by server name %q: certificate %s; the VM gets plain bytes", s.Host, e.certificate())
	e.acme()
	return s.To
}
