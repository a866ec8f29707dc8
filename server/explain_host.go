package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"strconv"
	"strings"

	"usher/config"
	"usher/router"
)

// hostField is the canonical host of a Host field; empty without one.
func hostField(h http.Header) (string, error) {
	text := h.Get("Host")
	if text == "" {
		return "", nil
	}
	key, err := router.Canonical(nil, []byte(text))
	return string(key), err
}

// hosted follows a Host field that differs from the server name and reports
// whether the request is served.
func (e *explainer) hosted(field string) bool {
	if field == "" || field == e.host || e.tls && e.site.Passthrough() {
		return true
	}
	shown := e.site
	var ok bool
	e.host = field
	if e.site, ok = e.sites.Lookup([]byte(field)); !ok {
		e.say("host", "no site for %q: 404", field)
		return false
	}
	e.say("host", "%q is of site %q, %s:%d", field, e.site.Host, e.site.Pos.File, e.site.Pos.Line)
	switch {
	case e.site.Passthrough():
		e.say("answer", "421: %q is left to its VM, which this connection does not lead to", field)
	case !covers(shown, field):
		e.say("answer", "421: the certificate of %q is not valid for %q", shown.Host, field)
	case e.site.Fault != nil:
		e.say("answer", "503: %s", e.site.Fault)
	default:
		return true
	}
	return false
}

// covers reports whether the certificate of a site is valid for a host.
func covers(s *config.Site, host string) bool {
	if s.Certificate == config.CertFile {
		pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
		return err == nil && pair.Leaf.VerifyHostname(host) == nil
	}
	_, parent, _ := strings.Cut(host, ".")
	return s.Host == host || s.Host == "*."+parent
}

// target is where a redirect:// backend leads: the public port is added to a
// site of our own that has none.
func (e *explainer) target(written string) string {
	if _, _, err := net.SplitHostPort(written); err == nil || e.conf.Listen.PublicHTTPSPort == 443 {
		return written
	}
	key, err := router.Canonical(nil, []byte(written))
	if err != nil {
		return written
	}
	if s, ok := e.sites.Lookup(key); !ok || s.Host == "*" {
		return written
	}
	return written + ":" + strconv.Itoa(e.conf.Listen.PublicHTTPSPort)
}
