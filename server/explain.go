package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/config"
	"usher/proxy/message"
	"usher/router"
)

// ExplainRequest is one imagined request.
type ExplainRequest struct {
	URL    string
	From   string // client address; empty for none
	Header http.Header
}

// Line is one step of an explanation.
type Line struct {
	Label string `json:"label"`
	Text  string `json:"text"`
}

// Explanation is what a request would meet, in order.
type Explanation struct {
	Lines []Line `json:"lines"`
}

func (e *Explanation) say(label, format string, a ...any) {
	e.Lines = append(e.Lines, Line{label, fmt.Sprintf(format, a...)})
}

// explainer answers one question about one configuration.
type explainer struct {
	Explanation
	conf  *config.Config
	sites *router.Table[*config.Site]
	url   *url.URL
	tls   bool
	host  string // canonical, of the request; of the server name until hostField
	site  *config.Site
}

// Explain says which listener, site, mode, certificate, route and backend a
// request would meet under a configuration file, and whether ACME would work
// for the name. It asks the DNS, and nothing else, over the network.
func Explain(file string, r ExplainRequest) (*Explanation, error) {
	var loader config.Loader
	conf, problems := loader.Load(file)
	if conf == nil {
		return nil, startError(file, problems)
	}
	e := &explainer{conf: conf, sites: siteTable(conf)}
	if err := e.parse(r.URL); err != nil {
		return nil, err
	}
	if e.raw() {
		return &e.Explanation, e.forward()
	}
	field, err := hostField(r.Header)
	if err != nil {
		return nil, err
	}
	if field != "" && !e.tls {
		e.host = field
	}
	from, err := e.client(r.From)
	if err != nil {
		return nil, err
	}
	if !e.listener() {
		e.say("answer", "none: no connection can be made")
		return &e.Explanation, nil
	}
	e.peer(from, r.Header)
	if e.findSite() && e.hosted(field) {
		e.serve()
	}
	return &e.Explanation, nil
}

func siteTable(c *config.Config) *router.Table[*config.Site] {
	sites := make(map[string]*config.Site, len(c.Sites))
	for _, s := range c.Sites {
		sites[s.Host] = s
	}
	return router.NewTable(sites)
}

// parse accepts a URL, or a bare hostname as https.
func (e *explainer) parse(text string) (err error) {
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	if e.url, err = url.Parse(text); err != nil {
		return fmt.Errorf("the URL %q cannot be parsed: %w", text, err)
	}
	if e.url.Scheme != "http" && e.url.Scheme != "https" && !e.raw() || e.url.Host == "" {
		return fmt.Errorf("the URL %q is not of the form http[s]://HOST/PATH, tcp://HOST:PORT or udp://HOST:PORT", text)
	}
	if e.raw() && e.url.Hostname() == "" {
		return nil
	}
	e.tls = e.url.Scheme == "https"
	key, err := router.Canonical(nil, []byte(e.url.Host))
	e.host = string(key)
	return err
}

// raw reports whether the URL is that of a raw port.
func (e *explainer) raw() bool { return e.url.Scheme == "tcp" || e.url.Scheme == "udp" }

func (e *explainer) client(from string) (netip.Addr, error) {
	if from == "" {
		return netip.Addr{}, nil
	}
	addr, err := netip.ParseAddr(from)
	if err != nil {
		return addr, fmt.Errorf("--from %q is not an IP address", from)
	}
	return addr.Unmap(), nil
}

// listener finds the listener of the URL's port.
func (e *explainer) listener() (found bool) {
	list, key := e.conf.Listen.HTTP, "http"
	if e.tls {
		list, key = e.conf.Listen.HTTPS, "https"
	}
	if len(list) == 0 {
		e.say("listener", "none: listen.%s = []", key)
		return false
	}
	if port := e.url.Port(); port != "" {
		for _, a := range list {
			if _, p, _ := net.SplitHostPort(a); p == port {
				e.say("listener", "%s (%s)", a, key)
				return true
			}
		}
		if e.tls && port == strconv.Itoa(e.conf.Listen.PublicHTTPSPort) {
			e.say("listener", "%s (%s), reached as public port %s", list[0], key, port)
			return true
		}
		e.say("listener", "none of listen.%s = [%s] has port %s", key, strings.Join(list, ", "), port)
		return false
	}
	e.say("listener", "%s (%s)", strings.Join(list, ", "), key)
	return true
}

// peer says what is believed of the client.
func (e *explainer) peer(from netip.Addr, h http.Header) {
	if !from.IsValid() {
		e.say("client", "any (--from IP tells more)")
		return
	}
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(from) })
	}
	text := from.String()
	if in(e.conf.Listen.ProxyProtocolFrom) {
		text += ", must send a PROXY header (proxy_protocol_from)"
	}
	believed := in(e.conf.Listen.TrustedProxies)
	if believed {
		text += ", a trusted proxy: its X-Forwarded-* is believed"
	}
	e.say("client", "%s", text)
	for name := range h {
		if message.Classify([]byte(name)).Forwarding() && !believed {
			e.say("field", "%s is dropped: %s is not in trusted_proxies", name, from)
		}
	}
}

// findSite looks the host up and reports whether it has a usable site.
func (e *explainer) findSite() bool {
	name := []byte(e.host)
	if e.tls && router.IsIP(name) {
		e.say("server name", "none: an IP literal is never sent as SNI, only the \"*\" site is reached by it")
		name = nil
	}
	var ok bool
	if e.site, ok = e.sites.Lookup(name); !ok {
		if e.tls {
			e.say("site", "none for %q: alert unrecognized_name, and 404 on a connection of another site", e.host)
		} else {
			e.say("site", "none for %q: 404", e.host)
		}
		return false
	}
	e.say("site", "%q, %s:%d", e.site.Host, e.site.Pos.File, e.site.Pos.Line)
	if f := e.site.Fault; f != nil {
		e.say("fault", "%s", f.Error())
		e.say("answer", "503 where it can be given, else alert internal_error; a running usher keeps the last good form")
		return false
	}
	return true
}

// serve says what the site does with the request.
func (e *explainer) serve() {
	if e.site.Passthrough() {
		e.say("mode", "passthrough: the VM terminates TLS with its own certificate")
	} else {
		e.say("mode", "terminate: certificate %s", e.certificate())
	}
	e.acme()
	e.say("policies", "none")
	path := []byte(e.url.EscapedPath())
	switch {
	case e.tls && e.site.Passthrough():
		e.say("backend", "%s, every byte", join(e.site.To))
		e.care(e.site, e.site.To)
		if e.site.Transparent {
			e.transparent(e.site.To)
		}
	case strings.HasPrefix(e.url.EscapedPath(), challengePath):
		e.challenge()
	case e.site.Certificate == config.CertACME && strings.HasPrefix(string(router.Normalize(nil, path)), challengePath):
		e.say("answer", "400: after decoding and resolving dot segments the path is an ACME challenge")
	case !e.tls:
		e.plain()
	default:
		e.route()
	}
}

const challengePath = "/.well-known/acme-challenge/"

func (e *explainer) certificate() string {
	switch s := e.site; s.Certificate {
	case config.CertFile:
		return fmt.Sprintf("from %s", s.CertFile)
	case config.CertLocal:
		return "of usher's own CA"
	}
	var names []string
	for _, i := range e.conf.ACME.Issuers {
		names = append(names, i.Directory)
	}
	return "by ACME from " + strings.Join(names, ", then ")
}

// acme says who answers challenges and whether they can arrive.
func (e *explainer) acme() {
	if !e.site.Passthrough() && e.site.Certificate != config.CertACME {
		e.say("acme", "not used: the certificate is %s", e.certificate())
		return
	}
	var ways []string
	if len(e.conf.Listen.HTTP) > 0 {
		ways = append(ways, "HTTP-01")
	}
	if len(e.conf.Listen.HTTPS) > 0 {
		ways = append(ways, "TLS-ALPN-01")
	}
	who := "usher answers"
	if e.site.Passthrough() {
		who = fmt.Sprintf("the VM answers (HTTP-01 on its port %d)", e.site.HTTPPort)
	}
	if len(ways) == 0 {
		e.say("acme", "cannot work: there is no listener that a challenge could arrive at")
		return
	}
	e.say("acme", "%s %s; %s", who, strings.Join(ways, " and "), e.resolves())
}

// resolves says where the CA would look for the name.
func (e *explainer) resolves() string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", e.host)
	if err != nil {
		return fmt.Sprintf("would fail: %s does not resolve here (%v)", e.host, err)
	}
	var here, elsewhere []string
	var own machine
	for _, a := range addrs {
		if a = a.Unmap(); own.has(a) {
			here = append(here, a.String())
		} else {
			elsewhere = append(elsewhere, a.String())
		}
	}
	if len(elsewhere) == 0 {
		return fmt.Sprintf("%s resolves to this machine (%s)", e.host, strings.Join(here, ", "))
	}
	return fmt.Sprintf("%s resolves to %s, which must lead here from outside", e.host, strings.Join(append(elsewhere, here...), ", "))
}

// challenge says who answers an HTTP-01 path.
func (e *explainer) challenge() {
	switch {
	case e.site.Passthrough():
		e.say("backend", "%s, its plain port %d: the challenge is the VM's", join(e.site.To), e.site.HTTPPort)
	case e.site.Certificate == config.CertACME:
		e.say("answer", "usher: the token if it is ours, else 404; no VM is asked")
	default:
		e.route()
	}
}

// plain says what port 80 does.
func (e *explainer) plain() {
	to := "https://" + e.host
	if p := e.conf.Listen.PublicHTTPSPort; p != 443 {
		to += ":" + strconv.Itoa(p)
	}
	switch {
	case e.site.HTTP == "refuse":
		e.say("answer", "403 and close (http = \"refuse\")")
	case e.site.HTTP == "forward" && e.site.Passthrough():
		e.say("backend", "%s, its plain port %d (http = \"forward\")", join(e.site.To), e.site.HTTPPort)
	case e.site.HTTP == "forward" || e.site.To[0].Scheme == config.Redirect && len(e.site.Paths) == 0:
		e.route()
	default:
		e.say("answer", "308 to %s%s", to, e.url.RequestURI())
	}
}

// route says which backends a path of a terminated site goes to.
func (e *explainer) route() {
	prefixes := make(map[string]config.Path, len(e.site.Paths))
	for _, p := range e.site.Paths {
		prefixes[p.Prefix] = p
	}
	p, ok := router.NewPaths(prefixes, config.Path{To: e.site.To}).Lookup([]byte(e.url.RequestURI()))
	if !ok {
		e.say("answer", "400: after decoding and resolving dot segments the path would match another route")
		return
	}
	if p.Prefix != "" {
		e.say("route", "prefix %q", p.Prefix)
	} else {
		e.say("route", "the site's own `to`")
	}
	switch p.To[0].Scheme {
	case config.Redirect:
		e.say("answer", "308 to https://%s%s", e.target(p.To[0].Host), e.url.RequestURI())
	case config.Whoami:
		e.say("answer", "usher itself shows the request as a VM would see it")
	default:
		e.say("backend", "%s", join(p.To))
		e.care(e.site, p.To)
		if e.site.Transparent {
			e.transparent(p.To)
		}
	}
}

func join(to []config.Backend) string {
	var all []string
	for _, b := range to {
		name := b.VM
		b.VM = "" // the address, not the name, is what is dialed
		text := b.String()
		if name != "" {
			text += " (" + name + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, " or ")
}
