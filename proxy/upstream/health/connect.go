package health

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"usher/proxy/proxyproto"
	"usher/proxy/socket"
)

const (
	farewell     = 100 * time.Millisecond // for the VM to close first
	farewellRead = 64 << 10               // bytes read meanwhile
)

type dialFunc = func(ctx context.Context, network, address string) (*socket.Socket, error)

// maker makes the checks of one subject over the network.
type maker struct {
	key
	network, target string
	dial            dialFunc
	readers         *readers
	tls             *tls.Config     // nil: plain
	statuses        []statusRange   // HTTP
	request         *http.Request   // HTTP and GRPC; cloned for each check
	wire            []byte          // HTTP/1.1: the request as it is sent
	transport       *http.Transport // HTTP/2 and GRPC
	asked           bool            // the VM wanted a certificate; owned by the check under way
	fault           error           // what cannot be checked: every check fails with it
}

func newMaker(dial dialFunc, r *readers, k key) *maker {
	m := &maker{key: k, network: "tcp", target: k.address, dial: dial, readers: r}
	if path, ok := strings.CutPrefix(k.address, "unix:"); ok {
		m.network, m.target = "unix", path
	}
	if m.check.Kind == TLS {
		m.tls = m.anyCertificate()
	}
	if m.check.Secure {
		m.tls, m.fault = verified(m.check)
	}
	if m.fault == nil && (m.check.Kind == HTTP || m.check.Kind == GRPC) {
		m.fault = m.prepare()
	}
	return m
}

// anyCertificate is for passthrough sites: whether the handshake works is the
// VM's business, whether its name is right that of its visitors.
func (m *maker) anyCertificate() *tls.Config {
	return &tls.Config{
		ServerName:         hostname(m.check.Host),
		InsecureSkipVerify: true,
		MinVersion:         tls.VersionTLS10,
		CurvePreferences:   cheapCurves(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			m.asked = true
			return new(tls.Certificate), nil
		},
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
}

// cheapCurves leaves the hybrids with ML-KEM out: nothing that a check sends
// has to stay secret for long, and they cost more than all the rest.
func cheapCurves() []tls.CurveID {
	return []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}
}

// verified is how the site's traffic verifies the VM.
func verified(c Check) (*tls.Config, error) {
	config := &tls.Config{
		ServerName:         c.ServerName,
		InsecureSkipVerify: c.Insecure,
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
		CurvePreferences:   cheapCurves(),
		ClientSessionCache: tls.NewLRUClientSessionCache(1),
	}
	if c.HTTP2 {
		config.NextProtos = []string{"h2"}
	}
	if c.RootsPEM != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(c.RootsPEM)) {
			return nil, failure("no certificate in the CA file")
		}
	}
	return config, nil
}

// make makes one check. took does not count the farewell.
func (m *maker) make(ctx context.Context) (took time.Duration, err error) {
	begun := time.Now()
	if m.fault != nil {
		return 0, m.fault
	}
	switch {
	case m.check.Kind == TCP && m.network == "tcp":
		err = at("connect", socket.Probe(ctx, m.network, m.target))
		return time.Since(begun), err
	case m.check.HTTP2:
		err = m.makeHTTP2(ctx)
		return time.Since(begun), err
	}
	c, err := m.connect(ctx)
	if err != nil {
		return time.Since(begun), err
	}
	defer c.Close()
	if m.check.Kind == HTTP {
		err = m.makeHTTP1(c)
	}
	took = time.Since(begun)
	if err == nil && m.check.Kind != TCP {
		c.leave()
	}
	return took, err
}

// at adds what was being done to an error.
func at(name string, err error) error {
	if err == nil {
		return nil
	}
	return stage{name, err}
}

// conn is a connection to a VM for one check.
type conn struct {
	net.Conn // the socket or TLS over it
	socket   *socket.Socket
	stop     func() bool // of what ends it with the context
}

// Close ends the connection and the watch over its context.
func (c *conn) Close() error {
	c.stop()
	return c.socket.Close()
}

// leave waits a moment for the VM to close. It knows that we are done from the
// end of the TLS session or from a request with "Connection: close".
func (c *conn) leave() {
	c.socket.SetReadDeadline(time.Now().Add(farewell))
	if t, ok := c.Conn.(*tls.Conn); ok {
		t.CloseWrite()
		io.Copy(io.Discard, io.LimitReader(t, farewellRead)) // takes the session ticket along
	}
	io.Copy(io.Discard, io.LimitReader(c.socket, farewellRead))
}

// connect connects, sends the PROXY header, and makes the TLS handshake. All
// that is done on the connection ends with ctx.
func (m *maker) connect(ctx context.Context) (*conn, error) {
	s, err := m.dial(ctx, m.network, m.target)
	if err != nil {
		return nil, at("connect", err)
	}
	end, _ := ctx.Deadline()
	s.SetDeadline(end)
	c := &conn{s, s, context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })}
	if err = m.introduce(s); err == nil && m.tls != nil {
		err = m.handshake(c)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// introduce sends the PROXY header of somebody who speaks for himself.
func (m *maker) introduce(s *socket.Socket) error {
	var header []byte
	switch m.check.Proxy {
	case "":
		return nil
	case "v1":
		header = proxyproto.AppendV1(nil, netip.AddrPort{}, netip.AddrPort{})
	default:
		header = proxyproto.AppendV2(nil, netip.AddrPort{}, netip.AddrPort{})
	}
	_, err := s.Write(header)
	return err
}

// handshake makes the TLS handshake. In a TLS check, a VM that gives up
// because it wants to see a certificate of the visitor works.
func (m *maker) handshake(c *conn) error {
	m.asked = false
	t := tls.Client(c.socket, m.tls)
	c.Conn = t
	err := t.Handshake()
	if alert, ok := errors.AsType[*net.OpError](err); ok && m.asked && alert.Op == "remote error" {
		err = nil
	}
	if err == nil && m.check.HTTP2 && t.ConnectionState().NegotiatedProtocol != "h2" {
		err = failure("the VM does not offer HTTP/2")
	}
	return at("TLS", err)
}
