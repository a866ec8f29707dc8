package upstream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"usher/proxy/upstream/health"
	"usher/vm"
)

// Address is one backend as the configuration names it: a TCP host and port,
// a VM that discovery finds, or the path of a Unix socket.
type Address struct {
	Host string // IP address or DNS name; empty for a VM with discovery
	Unix string
	VM   *vm.Machine // that it is on; nil when it has no name

	Health   *health.Check // nil: it is not checked
	Weight   int           // share of the work; 0 is 1, negative is no new work
	MaxConns int           // exchanges and tunnels at once; 0 is no limit
	VMConns  int           // likewise, of all pools together at this address

	// The small ones stand together: there may be very many addresses.
	Port   uint16 // 0 with SRV
	SRV    bool   // Host is the name of SRV records (RFC 2782)
	Backup bool   // takes work only while no other one can
	IfMany bool   // Health is for a name of several addresses, not while it has one
}

// String is "host:port" or "unix:/path", with the name of a discovered VM as
// its host.
func (a Address) String() string {
	switch {
	case a.Unix != "":
		return "unix:" + a.Unix
	case a.SRV:
		return a.Host
	case a.Host == "" && a.VM != nil:
		return net.JoinHostPort(a.VM.Name, strconv.Itoa(int(a.Port)))
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Spec is everything that makes one pool different from another. Zero
// durations mean no limit, a zero Hold no holding.
type Spec struct {
	Addresses     []Address
	UDP           bool   // for Assign alone
	TLS           *TLS   // nil: plain
	HTTP2         bool   // with prior knowledge when plain, else by ALPN
	ProxyProtocol string // "", "v1" or "v2"
	Transparent   bool   // connect from the client's own address
	Connect       time.Duration
	Hold          time.Duration
	ResponseHead  time.Duration
	Forbid        *Own // addresses that may not be dialed (our own listeners); nil for none

	Balance      Balance
	Sticky       *Sticky       // nil: visitors are not kept on a backend
	SlowStart    time.Duration // in which a backend that comes back gets its share
	Queue        int           // requests that wait for backends at their limits; 0: none does
	QueueTimeout time.Duration
	Adaptive     bool // a limit found from the latency, beyond which requests are shed
	NoEjection   bool // failures of requests keep no backend out
}

// TLS says how backends are verified.
type TLS struct {
	ServerName string // SNI and name verified; empty: the host of each request
	RootsPEM   []byte // trust; empty: the system's
	Insecure   bool   // verify nothing
}

// Method is how a backend is chosen.
type Method uint8

// The methods of balancing.
const (
	Random2    Method = iota // the better one of two random ones
	RoundRobin               // in turn
	LeastConn                // the one with the fewest exchanges and tunnels
	IPHash                   // by the client's address
	HeaderHash               // by a request header field
	CookieHash               // by a cookie
)

// Balance is how requests are spread over backends.
type Balance struct {
	Method Method
	Name   string // of the header field or cookie
}

// Sticky keeps visitors on their backend by a cookie.
type Sticky struct {
	Cookie string        // its name
	TTL    time.Duration // 0: until the browser ends
	Key    []byte        // signs the values, so that nobody can choose a backend
}

// Own is the set of our own listeners' addresses.
type Own struct{ Has func(netip.AddrPort) bool }

// perClient reports whether connections speak for one client, from their
// first byte on.
func (s *Spec) perClient() bool { return s.ProxyProtocol != "" || s.Transparent }

// hasLimit reports whether some backend has one that requests wait for.
func hasLimit(all []Address) bool {
	return slices.ContainsFunc(all, func(a Address) bool { return a.MaxConns > 0 || a.VMConns > 0 })
}

// passive reports whether nothing has to be followed of an address before it
// gets work: no name, no check, no limit that it shares.
func (a *Address) passive() bool { return a.fixed() && a.Health == nil && a.VMConns == 0 }

// fixed reports whether the address says all by itself: it is no name.
func (a *Address) fixed() bool {
	if a.Unix != "" {
		return true
	}
	_, err := netip.ParseAddr(a.Host)
	return err == nil && !a.SRV
}

// tlsConfig is nil for plain backends.
func (s *Spec) tlsConfig() (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	c := &tls.Config{
		ServerName:         s.TLS.ServerName,
		InsecureSkipVerify: s.TLS.Insecure,
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: tls.NewLRUClientSessionCache(32),
	}
	if s.HTTP2 {
		c.NextProtos = []string{"h2"}
	}
	if len(s.TLS.RootsPEM) > 0 {
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(s.TLS.RootsPEM) {
			return nil, fmt.Errorf("no certificate in the CA file")
		}
	}
	return c, nil
}
