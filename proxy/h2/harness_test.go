package h2

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"usher/proxy/message"
	"usher/proxy/socket"
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
	KeepAlive:   10 * time.Second,
	Timeouts:    message.Timeouts{RequestBody: 10 * time.Second, ResponseWrite: 10 * time.Second},
	DrainGrace:  time.Second,
}

// pair is an accepted Socket and the peer's end of it.
func pair(t testing.TB) (*socket.Socket, net.Conn) {
	t.Helper()
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return s, c
}

// server is a Conn that runs until the end of the test.
type server struct {
	*Conn
	*handler
	ended chan error
}

func serve(t testing.TB, cfg *Config, f func(context.Context, *message.Exchange)) (*server, net.Conn) {
	t.Helper()
	s, c := pair(t)
	h := &handler{serve: f}
	srv := &server{NewConn(cfg, s, s, &message.Client{Proto: message.HTTP2, TLS: true}, h), h, make(chan error, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ended <- srv.Conn.Serve(context.Background())
	}()
	t.Cleanup(func() {
		c.Close()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Error("Serve did not end")
		}
	})
	return srv, c
}

func (s *server) wait(t testing.TB) error {
	t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("the connection did not end")
		return nil
	}
}

// peer speaks raw frames.
type peer struct {
	t    testing.TB
	conn net.Conn
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	dec  *hpack.Decoder
	got  []hpack.HeaderField
}

func newPeer(t testing.TB, c net.Conn) *peer {
	p := &peer{t: t, conn: c, fr: http2.NewFramer(c, c)}
	p.enc = hpack.NewEncoder(&p.buf)
	p.dec = hpack.NewDecoder(4096, func(f hpack.HeaderField) { p.got = append(p.got, f) })
	p.fr.AllowIllegalWrites = true
	return p
}

// client sends the preface and waits for the SETTINGS of the server.
func client(t testing.TB, c net.Conn, settings ...http2.Setting) *peer {
	p := newPeer(t, c)
	io.WriteString(c, http2.ClientPreface)
	p.fr.WriteSettings(settings...)
	for acks := 0; acks < 2; {
		f := p.read()
		if s, ok := f.(*http2.SettingsFrame); ok {
			if acks++; !s.IsAck() {
				p.fr.WriteSettingsAck()
			}
		}
	}
	return p
}

func (p *peer) read() http2.Frame {
	p.t.Helper()
	p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	f, err := p.fr.ReadFrame()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return f
}

// block encodes fields given as name, value, name, value…
func (p *peer) block(fields ...string) []byte {
	p.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		p.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return p.buf.Bytes()
}

func (p *peer) headers(id uint32, end bool, fields ...string) {
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block(fields...), EndStream: end, EndHeaders: true})
}

func (p *peer) get(id uint32, extra ...string) {
	p.headers(id, true, append([]string{":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/"}, extra...)...)
}

func (p *peer) post(id uint32, extra ...string) {
	p.headers(id, false, append([]string{":method", "POST", ":scheme", "https", ":authority", "a.example", ":path", "/"}, extra...)...)
}

// result is what a stream came to.
type result struct {
	status  string
	header  map[string]string
	body    []byte
	trailer map[string]string
	reset   *http2.ErrCode
	goaway  *http2.ErrCode
	err     error
}

// await reads until the stream has ended or the connection has.
func (p *peer) await(id uint32) (r result) {
	p.t.Helper()
	for {
		p.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		f, err := p.fr.ReadFrame()
		if err != nil {
			r.err = err
			return r
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			code := f.ErrCode
			r.goaway = &code
		case *http2.HeadersFrame:
			fields := p.decode(f.HeaderBlockFragment())
			if f.StreamID == id {
				r.take(fields)
			}
			if f.StreamID == id && f.StreamEnded() {
				return r
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				r.body = append(r.body, f.Data()...)
				if f.StreamEnded() {
					return r
				}
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				code := f.ErrCode
				r.reset = &code
				return r
			}
		}
	}
}

func (p *peer) decode(b []byte) map[string]string {
	p.got = nil
	if _, err := p.dec.Write(b); err != nil {
		p.t.Fatal(err)
	}
	p.dec.Close()
	m := map[string]string{}
	for _, f := range p.got {
		m[f.Name] = f.Value
	}
	return m
}

func (r *result) take(fields map[string]string) {
	switch s, ok := fields[":status"]; {
	case !ok:
		r.trailer = fields
	case strings.HasPrefix(s, "1"):
	default:
		r.status, r.header = s, fields
	}
}

// eventually waits for a state that another goroutine brings about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func isCalm(err error) bool {
	var c connError
	return errors.As(err, &c) && c.code == http2.ErrCodeEnhanceYourCalm
}
