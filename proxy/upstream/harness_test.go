package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script is what a VM does with one connection; n counts connections from 1.
type script func(n int, c net.Conn, r *bufio.Reader)

// testVM is a scripted VM.
type testVM struct {
	l     net.Listener
	group sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
}

func newVM(t *testing.T, address string, do script) *testVM {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	v := &testVM{l: l}
	v.group.Go(func() { v.accept(do) })
	t.Cleanup(v.stop)
	return v
}

func (v *testVM) accept(do script) {
	for n := 1; ; n++ {
		c, err := v.l.Accept()
		if err != nil {
			return
		}
		v.mu.Lock()
		v.conns = append(v.conns, c)
		v.mu.Unlock()
		v.group.Go(func() {
			defer c.Close()
			do(n, c, bufio.NewReader(c))
		})
	}
}

// kill resets everything at once, as the kernel does for a process.
func (v *testVM) kill() {
	v.mu.Lock()
	for _, c := range v.conns {
		c.(*net.TCPConn).SetLinger(0)
	}
	v.mu.Unlock()
	v.stop()
}

func (v *testVM) stop() {
	v.l.Close()
	v.mu.Lock()
	for _, c := range v.conns {
		c.Close()
	}
	v.mu.Unlock()
	v.group.Wait()
}

func (v *testVM) address() Address {
	a := netip.MustParseAddrPort(v.l.Addr().String())
	return Address{Host: a.Addr().String(), Port: a.Port()}
}

// serve answers every request of a connection with its body and method.
func serve(_ int, c net.Conn, r *bufio.Reader) {
	for {
		if !serveOne(c, r, "") {
			return
		}
	}
}

func serveOne(c net.Conn, r *bufio.Reader, extra string) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	body, _ := io.ReadAll(req.Body)
	text := req.Method + " " + string(body)
	res := http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(text)), Header: http.Header{}}
	if extra != "" {
		res.StatusCode = 401
		res.Header.Set("WWW-Authenticate", extra)
	}
	res.Body = io.NopCloser(newReader(text))
	return res.Write(c) == nil
}

func newReader(s string) io.Reader { return &stringReader{s} }

type stringReader struct{ s string }

func (r *stringReader) Read(p []byte) (int, error) {
	if r.s == "" {
		return 0, io.EOF
	}
	n := copy(p, r.s)
	r.s = r.s[n:]
	return n, nil
}

// newPool makes a pool that is retired at the end of the test.
func pool(t *testing.T, s Spec, d Dialer) *Pool {
	t.Helper()
	plan := NewSet(d).Plan()
	p, err := plan.Pool(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Retire)
	return p
}

func spec(a ...Address) Spec {
	return Spec{Addresses: a, Connect: 2 * time.Second, Hold: 5 * time.Second, ResponseHead: 5 * time.Second}
}

// body is a request body in memory.
type body struct {
	text    string
	at      int
	stopped bool
}

func (b *body) Read(p []byte) (int, error) {
	if b.at == len(b.text) {
		return 0, io.EOF
	}
	n := copy(p, b.text[b.at:])
	b.at += n
	return n, nil
}
func (b *body) Stop(error)      { b.stopped = true }
func (b *body) Resume()         { b.stopped = false }
func (b *body) Untouched() bool { return b.at == 0 }

// client is the other side of an exchange; gone is called by leave.
type client struct {
	mu   sync.Mutex
	gone func()
	left bool
}

func (c *client) WriteHead(*message.Response) error { return nil }
func (c *client) Write(p []byte) (int, error)       { return len(p), nil }
func (c *client) Flush() error                      { return nil }
func (c *client) CloseWrite(*message.Header) error  { return nil }
func (c *client) Abort(error)                       {}
func (c *client) Upgrade() (message.Duplex, error)  { return nil, io.ErrClosedPipe }
func (c *client) Watch(gone func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gone = gone
	if gone != nil && c.left {
		c.gone = nil
		gone()
	}
}

func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = true
	if c.gone != nil {
		c.gone()
		c.gone = nil
	}
}

func exchange(method, text string) *message.Exchange {
	ex := &message.Exchange{Client: &message.Client{Addr: netip.MustParseAddrPort("192.0.2.1:1234"), Local: netip.MustParseAddrPort("192.0.2.2:443")}, Stream: &client{}}
	ex.Host = []byte("a.test")
	ex.Request.Method, ex.Request.Scheme = []byte(method), []byte("https")
	ex.Request.Path, ex.Request.Authority = []byte("/"), []byte("a.test")
	if text != "" {
		ex.Request.Body, ex.Request.Length = &body{text: text}, int64(len(text))
	}
	return ex
}

// answer does one exchange to its end and returns the body of the response.
func answer(t *testing.T, p *Pool, ex *message.Exchange) (string, error) {
	t.Helper()
	l, err := p.RoundTrip(context.Background(), ex, 0)
	if err != nil {
		return "", err
	}
	var b []byte
	if ex.Response.Body != nil {
		if b, err = io.ReadAll(ex.Response.Body); err != nil {
			t.Error(err)
		}
	}
	l.Release()
	return string(b), nil
}

// freePort is a port that nobody listens on right now, at an address that is
// most likely no other test's.
func freePort(t *testing.T) Address {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a := netip.MustParseAddrPort(l.Addr().String())
	return Address{Host: a.Addr().String(), Port: a.Port()}
}
