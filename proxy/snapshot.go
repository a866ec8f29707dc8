package proxy

import (
	"net/netip"

	"usher/proxy/h1"
	"usher/proxy/h2"
	"usher/proxy/message"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
)

// Snapshot is the routing world of one generation. It is never changed once
// published.
type Snapshot struct {
	Generation uint64
	Sites      *router.Table[*Site]
	Forwards   map[string]*Forward // raw ports, by Name
	Challenges map[string]bool     // names of raw ports whose ACME challenges are ours
	Pools      *upstream.Set
	Timeouts   Timeouts
	H1         *h1.Config // for connections accepted from now on
	H2         *h2.Config

	TrustedProxies    []netip.Prefix // whose X-Forwarded-* is believed
	ProxyProtocolFrom []netip.Prefix // whose PROXY header is required and believed
	PublicHTTPSPort   uint16
	AltSvc            []byte // what h1 and h2 say of HTTP/3 (RFC 7838); nil when it is off
}

// Site is one hostname and how it is served.
type Site struct {
	Host        string // canonical pattern
	Passthrough bool
	Fault       string // not empty: quarantined, nothing else counts but Terminates

	Rest  *Route                // of a terminated site, where no prefix matches
	Paths *router.Paths[*Route] // nil when the site has none
	Below []*Route              // the values of Paths
	Pool  *upstream.Pool        // of a passthrough site
	Plain *upstream.Pool        // of a passthrough site: its VM's plain port

	OwnsChallenges bool // ACME challenges of the name are answered by usher
	PlainHTTP      PlainHTTP
	HSTS           bool
	Timeouts       SiteTimeouts
	Counters       *telemetry.Site

	ErrorPages  map[int][]byte // HTML for answers of our own, by status
	Maintenance []byte         // HTML for 502, 503 and 504 that have no page; nil for ours
}

// PlainHTTP is what port 80 does with a site.
type PlainHTTP uint8

// The ways of port 80.
const (
	RedirectPlain PlainHTTP = iota
	ForwardPlain
	RefusePlain
)

// Route is where a path of a terminated site goes: exactly one of Pool,
// Redirect and Whoami is set.
type Route struct {
	Pool     *upstream.Pool
	Redirect string // host[:port] to send visitors to
	Whoami   bool
}

// reaches reports whether some backend of the site was configured so.
func (s *Site) reaches(source string) bool {
	found := false
	s.EachPool(func(p *upstream.Pool) {
		for _, b := range p.Backends() {
			found = found || b.Source() == source
		}
	})
	return found
}

// reaches reports whether the backend of l belongs to its site, or to its raw
// port.
func (s *Snapshot) reaches(l *live) bool {
	if l.forward != "" {
		f := s.Forwards[l.forward]
		return f != nil && f.reaches(l.key, l.backend)
	}
	site, ok := s.Sites.Lookup([]byte(l.key))
	return ok && site.reaches(l.backend)
}

// EachPool calls f for every pool of the site.
func (s *Site) EachPool(f func(*upstream.Pool)) {
	if s.Pool != nil {
		f(s.Pool)
	}
	if s.Plain != nil {
		f(s.Plain)
	}
	if s.Rest != nil && s.Rest.Pool != nil {
		f(s.Rest.Pool)
	}
	for _, r := range s.Below {
		if r.Pool != nil {
			f(r.Pool)
		}
	}
}

// route finds the route of a path; ok is false for a path that would match
// another one after normalising it.
func (s *Site) route(path []byte) (r *Route, ok bool) {
	if s.Paths == nil {
		return s.Rest, true
	}
	return s.Paths.Lookup(path)
}

// trusted reports whether a peer is in a list. Addresses are never
// IPv4-mapped.
func trusted(list []netip.Prefix, peer netip.Addr) bool {
	for _, p := range list {
		if p.Contains(peer) {
			return true
		}
	}
	return false
}

// site finds the site of a host as it was sent, with its canonical form.
func (s *Snapshot) site(ex *message.Exchange) (*Site, bool) {
	key, err := router.Canonical(ex.Scratch(router.MaxHost), ex.Request.Authority)
	if err != nil {
		return nil, false
	}
	ex.Host = key
	return s.Sites.Lookup(key)
}
