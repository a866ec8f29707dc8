package h3

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"go.uber.org/goleak"

	"usher/proxy/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// handler answers with a function and notes what was refused.
type handler struct {
	serve     func(context.Context, *message.Exchange)
	served    atomic.Int32
	mu        sync.Mutex
	malformed []int
}

func (h *handler) Serve(ctx context.Context, ex *message.Exchange) {
	h.served.Add(1)
	h.serve(ctx, ex)
}

func (h *handler) Malformed(_ *message.Exchange, err *message.Error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.malformed = append(h.malformed, err.Status)
}

func (h *handler) refused() []int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]int(nil), h.malformed...)
}

// hello answers every request with its body, or with "hello".
func hello(_ context.Context, ex *message.Exchange) {
	body := []byte("hello")
	if ex.Request.Body != nil {
		b, err := io.ReadAll(ex.Request.Body)
		if err != nil {
			ex.Stream.Abort(err)
			return
		}
		body = b
	}
	answer(ex, 200, body)
}

func answer(ex *message.Exchange, status int, body []byte) error {
	r := &ex.Response
	r.Status, r.Length = status, int64(len(body))
	if err := ex.Stream.WriteHead(r); err != nil {
		return err
	}
	if _, err := ex.Stream.Write(body); err != nil {
		return err
	}
	return ex.Stream.CloseWrite(nil)
}

var testConfig = Config{
	RequestHead: 10 * time.Second,
	KeepAlive:   30 * time.Second,
	Handshake:   10 * time.Second,
	Timeouts:    message.Timeouts{RequestBody: 10 * time.Second, ResponseWrite: 10 * time.Second},
	DrainGrace:  100 * time.Millisecond,
}

// identity is a certificate for site.test.
func identity(t testing.TB) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"site.test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, pool
}

// site is a running Server with what a client of it needs.
type site struct {
	*Server
	t       testing.TB
	addr    string
	trust   *x509.CertPool
	opened  atomic.Int32
	closed  atomic.Int32
	ended   chan error
	serving chan error
}

// start runs a Server with options changed by the functions.
func start(t testing.TB, h message.Handler, change ...func(*Options)) *site {
	t.Helper()
	conf, pool := identity(t)
	sock, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, trust: pool, addr: sock.Addr().String(), ended: make(chan error, 100), serving: make(chan error, 1)}
	o := Options{
		Conn: sock, Handler: h, InstanceID: 7,
		TLS: func(name string) *tls.Config {
			if name != "site.test" {
				return nil
			}
			return conf
		},
		Config: func() *Config { return &testConfig },
		Client: func(c *message.Client) { c.Covers = func(string) bool { return true } },
		Opened: func() { s.opened.Add(1) },
		Closed: func() { s.closed.Add(1) },
		Ended: func(_ *message.Client, err error) {
			select {
			case s.ended <- err:
			default:
			}
		},
	}
	for _, f := range change {
		f(&o)
	}
	if s.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	go func() { s.serving <- s.Serve(context.Background()) }()
	t.Cleanup(func() { s.Close() })
	return s
}

// clientTLS is what a client of the site uses.
func (s *site) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: s.trust, ServerName: "site.test", NextProtos: []string{alpn}}
}

// client is an http3 client whose connections all go to the site.
func (s *site) client() *http.Client {
	tr := &http3.Transport{TLSClientConfig: s.clientTLS(), Dial: s.dialEarly}
	s.t.Cleanup(func() { tr.Close() })
	return &http.Client{Transport: tr}
}

func (s *site) dialEarly(ctx context.Context, _ string, conf *tls.Config, qc *quic.Config) (*quic.Conn, error) {
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	tr := &quic.Transport{Conn: udp}
	s.t.Cleanup(func() { tr.Close(); udp.Close() })
	to, err := net.ResolveUDPAddr("udp", s.addr)
	if err != nil {
		return nil, err
	}
	return tr.DialEarly(ctx, to, conf, qc)
}

// raw is a client that says what it likes.
type raw struct {
	*quic.Conn
	t testing.TB
}

// dial opens a connection without a word of HTTP/3.
func (s *site) dial() *raw {
	s.t.Helper()
	// As browsers do: one stream cannot take the whole window of the connection.
	c, err := s.dialEarly(s.t.Context(), "", s.clientTLS(), &quic.Config{InitialConnectionReceiveWindow: 4 << 20})
	if err != nil {
		s.t.Fatal(err)
	}
	<-c.HandshakeComplete()
	s.t.Cleanup(func() { c.CloseWithError(codeNone, "") })
	return &raw{c, s.t}
}

// greeted is dial and a control stream with SETTINGS.
func (s *site) greeted() *raw {
	s.t.Helper()
	c := s.dial()
	c.uni(streamControl, frameSettings, 0)
	return c
}

// uni opens a unidirectional stream that begins with b.
func (c *raw) uni(b ...byte) *quic.SendStream {
	c.t.Helper()
	s, err := c.OpenUniStream()
	if err != nil {
		c.t.Fatal(err)
	}
	s.Write(b)
	return s
}

// open opens a request stream with b on it.
func (c *raw) open(b []byte) *quic.Stream {
	c.t.Helper()
	s, err := c.OpenStreamSync(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	var enough *quic.StreamError // the server has answered without reading all of it
	if _, err := s.Write(b); err != nil && !(errors.As(err, &enough) && enough.ErrorCode == codeNone) {
		c.t.Fatal(err)
	}
	return s
}

// send is open and the end of the stream.
func (c *raw) send(b []byte) *quic.Stream {
	c.t.Helper()
	s := c.open(b)
	s.Close()
	return s
}

func frame(kind uint64, payload []byte) []byte {
	return append(appendVarint(appendVarint(nil, kind), uint64(len(payload))), payload...)
}

// block encodes names and values in turn.
func block(lines ...string) []byte {
	var o output
	e := qpack.NewEncoder(&o)
	for i := 0; i < len(lines); i += 2 {
		e.WriteField(qpack.HeaderField{Name: lines[i], Value: lines[i+1]})
	}
	return o.b
}

func headers(lines ...string) []byte { return frame(frameHeaders, block(lines...)) }

// get is the head of a GET and more.
func get(lines ...string) []byte { return request("GET", lines...) }

func request(method string, lines ...string) []byte {
	return headers(append([]string{":method", method, ":scheme", "https", ":authority", "site.test", ":path", "/"}, lines...)...)
}

// reply is what came back on a stream.
type reply struct {
	status  string
	interim []string
	header  map[string]string
	trailer map[string]string
	body    []byte
	err     error // nil at a clean end
}

// reply reads a whole response.
func (c *raw) reply(s *quic.Stream) (r reply) {
	c.t.Helper()
	in := input{read: s.Read, buf: make([]byte, 64<<10)}
	for {
		kind, n, err := in.header()
		if err == io.EOF {
			return r
		}
		if err != nil {
			r.err = err
			return r
		}
		p, err := in.payload(int(n), func(int) error { return nil })
		if err != nil {
			r.err = err
			return r
		}
		switch kind {
		case frameData:
			r.body = append(r.body, p...)
		case frameHeaders:
			c.section(&r, p)
		}
	}
}

func (c *raw) section(r *reply, p []byte) {
	c.t.Helper()
	fields := map[string]string{}
	next := (&qpack.Decoder{}).Decode(p)
	for {
		f, err := next()
		if err == io.EOF {
			break
		}
		if err != nil {
			c.t.Errorf("the response does not decode: %v", err)
			return
		}
		fields[f.Name] = f.Value
	}
	switch status := fields[":status"]; {
	case status == "":
		r.trailer = fields
	case status[0] == '1':
		r.interim = append(r.interim, status)
	default:
		r.status, r.header = status, fields
	}
}

// wait waits for a condition that another goroutine brings about.
func wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// acceptance is what a WebSocket server answers to a key.
func acceptance(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}
