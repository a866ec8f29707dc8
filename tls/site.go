package tls

import (
	"crypto/sha256"
	cryptotls "crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// shown is a certificate as clients get to see it. It is never changed.
type shown struct {
	cert     *cryptotls.Certificate // with Leaf
	print    [sha256.Size]byte      // of the leaf
	stapleAt atomic.Int64           // Unix nanoseconds: when its OCSP response is looked at again
}

func newShown(cert *cryptotls.Certificate) *shown {
	return &shown{cert: cert, print: sha256.Sum256(cert.Certificate[0])}
}

// stapled is s with another OCSP response.
func (s *shown) stapled(response []byte) *shown {
	cert := *s.cert
	cert.OCSPStaple = response
	return &shown{cert: &cert, print: s.print}
}

func (s *shown) expired(now time.Time) bool { return now.After(s.cert.Leaf.NotAfter) }

// site is one wanted name and what is known of its certificate.
type site struct {
	want  Want
	pair  *pair // KindFile
	shown atomic.Pointer[shown]
	mu    sync.Mutex
	*account
}

// account is what is known of a certificate that is ordered. Sites of other
// kinds have none: there may be very many sites.
type account struct {
	job job // owned by jobs

	// site.mu
	known   bool // storage was read since the site or the issuers came
	stored  record
	trouble trouble
	ordered time.Time // when the last order of ours went through
}

// trouble is what the last tries for a site came to.
type trouble struct {
	failures int // in a row
	reason   string
}

func newSite(w Want, p *pair) *site {
	s := &site{want: w, pair: p}
	if w.Kind != KindFile && w.Kind != KindLocal {
		s.account = &account{job: job{site: s}}
	}
	return s
}

// find is the wanted site that a name belongs to: exact, then wildcard, then
// catch-all, or nil. It does not allocate for names in lower case.
func (c *Certificates) find(name string) *site {
	sites := *c.sites.Load()
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if s := sites[name]; s != nil {
		return s
	}
	if dot := strings.IndexByte(name, '.'); dot > 0 && len(name) < 256 {
		var room [257]byte
		wild := append(append(room[:0], '*'), name[dot:]...)
		if s := sites[string(wild)]; s != nil {
			return s
		}
	}
	return sites["*"]
}

// show is what a client that asks for name gets to see of s.
func (c *Certificates) show(s *site, name string, local netip.Addr) (*shown, error) {
	switch s.want.Kind {
	case KindFile:
		return s.pair.show()
	case KindLocal:
		if s.want.Host == "*" {
			return c.authority.guest(guestName(name, local))
		}
		return c.authority.show(s)
	default:
		return c.showStored(s)
	}
}

// showStored serves what is in memory or else, once, what is in storage. An
// expired certificate is no certificate.
func (c *Certificates) showStored(s *site) (*shown, error) {
	if now := s.shown.Load(); now != nil && !now.expired(time.Now()) {
		return now, nil
	}
	if err := c.read(s, true); err != nil {
		return nil, fmt.Errorf("no certificate for %q: %w", s.want.Host, err)
	}
	if now := s.shown.Load(); now != nil && !now.expired(time.Now()) {
		return now, nil
	}
	c.jobs.ask(s)
	return nil, fmt.Errorf("no certificate for %q yet: %s", s.want.Host, s.why())
}

// forget has storage read again, and tries begin as if nothing had failed.
func (s *site) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.known, s.trouble = false, trouble{}
}

func (s *site) why() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trouble.reason != "" {
		return s.trouble.reason
	}
	return "it is being ordered"
}

// guestName is the name that the catch-all site answers to. Without SNI that is
// the address which the client came to.
func guestName(name string, local netip.Addr) string {
	switch {
	case name != "":
		return strings.TrimSuffix(strings.ToLower(name), ".")
	case local.IsValid():
		return local.Unmap().WithZone("").String()
	default:
		return "localhost"
	}
}

// localAddr is invalid when the connection does not say.
func localAddr(conn net.Conn) netip.Addr {
	if conn == nil || conn.LocalAddr() == nil {
		return netip.Addr{}
	}
	addr, _ := netip.ParseAddrPort(conn.LocalAddr().String())
	return addr.Addr()
}

// Has reports whether there is a certificate to show for the site of host right
// now. It may read storage.
func (c *Certificates) Has(host string) bool {
	s := c.find(host)
	if s == nil {
		return false
	}
	if s.want.Kind == KindLocal {
		return c.authority.open() == nil
	}
	_, err := c.show(s, host, netip.Addr{})
	return err == nil
}

// Leaf is the certificate that is shown now to a connection with this SNI, as
// it was sent, that came to the address local; or nil. It may read storage.
func (c *Certificates) Leaf(serverName string, local netip.Addr) *x509.Certificate {
	s := c.find(serverName)
	if s == nil {
		return nil
	}
	now, err := c.show(s, serverName, local)
	if err != nil {
		return nil
	}
	return now.cert.Leaf
}

// Covers reports whether that certificate is valid for host, a name or an IP
// literal without a port. A connection may be asked for another of our sites
// only if it is (RFC 9110 section 7.4). A resumed connection is no exception:
// tickets end with the certificate that they were given with.
func (c *Certificates) Covers(serverName string, local netip.Addr, host string) bool {
	leaf := c.Leaf(serverName, local)
	return leaf != nil && leaf.VerifyHostname(host) == nil
}
