package peer

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/e2e/strict"
)

// Patience is how long a test waits for something that should come soon; it is
// generous, because the machine may be busy and the binary carries the race
// detector.
const Patience = 20 * time.Second

// Client is one connection to usher. Its methods end the test when something
// other than what they are for happens.
type Client struct {
	net.Conn
	R *bufio.Reader
	t testing.TB
}

// NewClient wraps a connection that is closed at the end of the test.
func NewClient(t testing.TB, c net.Conn) *Client {
	t.Cleanup(func() { c.Close() })
	return &Client{c, bufio.NewReader(c), t}
}

// Dial connects to addr.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, c)
}

// DialFrom connects to addr from a local IP address.
func DialFrom(t testing.TB, ip, addr string) *Client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: Patience}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return NewClient(t, c)
}

// Handshake starts TLS on the connection.
func (c *Client) Handshake(conf *tls.Config) (*Client, error) {
	tc := tls.Client(c.Conn, conf)
	tc.SetDeadline(time.Now().Add(Patience))
	if err := tc.Handshake(); err != nil {
		return nil, err
	}
	tc.SetDeadline(time.Time{})
	return &Client{tc, bufio.NewReader(tc), c.t}, nil
}

// Send writes bytes.
func (c *Client) Send(s string) {
	c.t.Helper()
	c.SetWriteDeadline(time.Now().Add(Patience))
	if _, err := io.WriteString(c.Conn, s); err != nil {
		c.t.Fatalf("sending %.60q: %v", s, err)
	}
}

// Try writes bytes and lets a peer that has stopped reading be.
func (c *Client) Try(s string) error {
	c.SetWriteDeadline(time.Now().Add(Patience))
	_, err := io.WriteString(c.Conn, s)
	return err
}

// Response reads the final response to a request of the method.
func (c *Client) Response(method string) *strict.Response {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Patience))
	p, err := strict.ReadResponse(c.R, method)
	if err != nil {
		c.t.Fatalf("no whole response: %v (so far %+v)", err, p)
	}
	return p
}

// Head reads one response head, interim or final.
func (c *Client) Head() *strict.Response {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(Patience))
	p, err := strict.ReadResponseHead(c.R)
	if err != nil {
		c.t.Fatalf("no response head: %v", err)
	}
	return p
}

// Get asks for a path and reads the response. Fields are whole lines without
// their CRLF.
func (c *Client) Get(host, path string, fields ...string) *strict.Response {
	c.t.Helper()
	c.Send(Get(host, path, fields...))
	return c.Response("GET")
}

// Get is the bytes of a GET request.
func Get(host, path string, fields ...string) string { return Request("GET", host, path, fields...) }

// Request is the bytes of a request without a body.
func Request(method, host, path string, fields ...string) string {
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: " + host + "\r\n")
	for _, f := range fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n"
}

// Rest reads to the end of the connection, which must come within d.
func (c *Client) Rest(d time.Duration) ([]byte, error) {
	c.SetReadDeadline(time.Now().Add(d))
	return io.ReadAll(c.R)
}

// WantClosed fails unless the peer closes within d, in order and without
// another byte.
func (c *Client) WantClosed(d time.Duration) {
	c.t.Helper()
	rest, err := c.Rest(d)
	if err != nil || len(rest) > 0 {
		c.t.Errorf("connection was not closed in order within %v: %v, %.80q", d, err, rest)
	}
}

// WantExact reads n bytes that must be want.
func (c *Client) WantExact(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(Patience))
	if n, err := io.ReadFull(c.R, got); err != nil || string(got) != want {
		c.t.Fatalf("read %q, %v; want %q", got[:n], err, want)
	}
}

// HalfClose ends the client's direction only.
func (c *Client) HalfClose() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// IsReset reports whether err is a TCP reset.
func IsReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// Certificate is the one that the server showed.
func (c *Client) Certificate() *x509.Certificate {
	return c.Conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}
