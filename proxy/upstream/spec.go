package upstream

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"usher/proxy/upstream/health"
	"usher/vm"
)

// Address is one backend as the configuration names it: a TCP host and port,
// a VM that discovery finds, or the path of a Unix socket.
type Address struct {
	Host string // IP address or DNS name; empty for a VM with discovery
	Port uint16 // 0 with SRV
	Unix string
	SRV  bool        // Host is the name of SRV records (RFC 2782)
	VM   *vm.Machine // that it is on; nil when it has no name

	Weight   int  // share of the work; 0 is 1, negative is no new work
	Backup   bool // takes work only while no other one can
	MaxConns int  // exchanges and tunnels at once; 0 is no limit
	VMConns  int  // likewise, of all pools together at this address

	Health *health.Check // nil: it is not checked
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

// key is equal for equal specs.
func (s *Spec) key() string {
	var b strings.Builder
	for _, a := range s.Addresses {
		b.WriteString(a.String())
		if a != (Address{Host: a.Host, Port: a.Port, Unix: a.Unix}) {
			fmt.Fprintf(&b, " %d %t %d %d %t", a.Weight, a.Backup, a.MaxConns, a.VMConns, a.SRV)
			if a.VM != nil {
				fmt.Fprintf(&b, " %q %t", a.VM.Name, a.Host == "")
			}
			if a.Health != nil {
				fmt.Fprintf(&b, " %#v", *a.Health)
			}
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s %d %d %d %t %t", s.ProxyProtocol, s.Connect, s.Hold, s.ResponseHead, s.Forbid != nil, s.HTTP2)
	if s.UDP {
		b.WriteString("\nudp")
	}
	if t := s.TLS; t != nil {
		fmt.Fprintf(&b, "\ntls %q %t %x", t.ServerName, t.Insecure, sha256.Sum256(t.RootsPEM))
	}
	if s.Balance != (Balance{}) || s.SlowStart != 0 || s.Queue != 0 || s.QueueTimeout != 0 || s.Adaptive || s.NoEjection || s.Transparent {
		fmt.Fprintf(&b, "\nwork %d %q %d %d %d %t %t %t", s.Balance.Method, s.Balance.Name, s.SlowStart, s.Queue, s.QueueTimeout, s.Adaptive, s.NoEjection, s.Transparent)
	}
	if c := s.Sticky; c != nil {
		fmt.Fprintf(&b, "\nsticky %q %d %x", c.Cookie, c.TTL, sha256.Sum256(c.Key))
	}
	return b.String()
}

// perClient reports whether connections speak for one client, from their
// first byte on.
func (s *Spec) perClient() bool { return s.ProxyProtocol != "" || s.Transparent }

// limited reports whether some backend has a limit that requests wait for.
func (s *Spec) limited() bool {
	for i := range s.Addresses {
		if s.Addresses[i].MaxConns > 0 || s.Addresses[i].VMConns > 0 {
			return true
		}
	}
	return false
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
