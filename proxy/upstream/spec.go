package upstream

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"usher/proxy/socket"
)

// Address is one backend as the configuration names it: a TCP host and port,
// or the path of a Unix socket.
type Address struct {
	Host string // IP address or DNS name
	Port uint16
	Unix string
}

// String is "host:port" or "unix:/path".
func (a Address) String() string {
	if a.Unix != "" {
		return "unix:" + a.Unix
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// Spec is everything that makes one pool different from another. Zero
// durations mean no limit, a zero Hold no holding.
type Spec struct {
	Addresses     []Address
	TLS           *TLS   // nil: plain
	HTTP2         bool   // with prior knowledge when plain, else by ALPN
	ProxyProtocol string // "", "v1" or "v2"
	Connect       time.Duration
	Hold          time.Duration
	ResponseHead  time.Duration
	Forbid        *Own // addresses that may not be dialed (our own listeners); nil for none
}

// TLS says how backends are verified.
type TLS struct {
	ServerName string // SNI and name verified; empty: the host of each request
	RootsPEM   []byte // trust; empty: the system's
	Insecure   bool   // verify nothing
}

// Own is the set of our own listeners' addresses.
type Own struct{ Has func(netip.AddrPort) bool }

// key is equal for equal specs.
func (s *Spec) key() string {
	var b strings.Builder
	for _, a := range s.Addresses {
		b.WriteString(a.String())
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s %d %d %d %t %t", s.ProxyProtocol, s.Connect, s.Hold, s.ResponseHead, s.Forbid != nil, s.HTTP2)
	if t := s.TLS; t != nil {
		fmt.Fprintf(&b, "\ntls %q %t %x", t.ServerName, t.Insecure, sha256.Sum256(t.RootsPEM))
	}
	return b.String()
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

// Dialer opens connections and resolves names; fields left nil use the
// network.
type Dialer struct {
	Dial   func(ctx context.Context, network, address string) (*socket.Socket, error)
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}
