package h3

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"usher/proxy/message"
)

func TestClientCancels(t *testing.T) {
	begun, gone := make(chan struct{}), make(chan struct{})
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		ex.Stream.Watch(func() { close(gone) })
		close(begun)
		<-gone
		ex.Stream.Watch(nil)
		if err := ex.Stream.WriteHead(&message.Response{Status: 200}); !errors.Is(err, message.ErrClientGone) {
			t.Errorf("the head went to nobody: %v", err)
		}
		ex.Stream.Abort(message.ErrClientGone)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "GET", "https://site.test/", nil)
	done := make(chan error, 1)
	client := s.client()
	go func() {
		_, err := client.Do(req)
		done <- err
	}()
	<-begun
	cancel()
	<-gone
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestClientResetsItsBody(t *testing.T) {
	begun, failed := make(chan struct{}), make(chan error, 1)
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		close(begun)
		_, err := io.Copy(io.Discard, ex.Request.Body)
		failed <- err
		ex.Stream.Abort(err)
	}})
	c := s.greeted()
	str := c.open(slices(request("POST"), frame(frameData, []byte("abc"))))
	<-begun
	str.CancelWrite(codeCancelled)
	if err := <-failed; !errors.Is(err, message.ErrClientGone) {
		t.Error(err)
	}
}

func TestHandlerAborts(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		ex.Stream.WriteHead(&message.Response{Status: 200, Length: 10})
		ex.Stream.Write([]byte("abc"))
		if string(ex.Request.Path) == "/short" {
			ex.Stream.CloseWrite(nil)
			return
		}
		ex.Stream.Abort(errors.New("the VM broke"))
	}})
	c := s.greeted()
	wantStream(t, c.reply(c.send(get())).err, codeInternal)
	r := c.reply(c.send(headers(":method", "GET", ":scheme", "https", ":authority", "site.test", ":path", "/short")))
	wantStream(t, r.err, codeInternal)
}

func TestStopAndResume(t *testing.T) {
	done := make(chan struct{})
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		type held interface {
			Untouched() bool
			Resume()
		}
		defer close(done)
		body, why := ex.Request.Body, errors.New("enough")
		if !body.(held).Untouched() {
			t.Error("touched")
		}
		ended := make(chan error)
		body.Stop(why)
		body.(held).Resume()
		go func() {
			_, err := body.Read(make([]byte, 10))
			ended <- err
		}()
		body.Stop(why)
		if err := <-ended; err != why {
			t.Errorf("Stop gave %v", err)
		}
		body.(held).Resume()
		answer(ex, 200, []byte("go"))
		b, err := io.ReadAll(body)
		if err != nil || string(b) != "late" {
			t.Errorf("%q %v", b, err)
		}
	}})
	c := s.greeted()
	str := c.open(request("POST"))
	in := input{read: str.Read, buf: make([]byte, 1<<10)}
	if _, _, err := in.header(); err != nil {
		t.Fatal(err)
	}
	str.Write(frame(frameData, []byte("late")))
	str.Close()
	if _, err := io.Copy(io.Discard, str); err != nil {
		t.Error(err)
	}
	<-done
}

func TestUnknownNameIsRefusedAtOnce(t *testing.T) {
	s := start(t, &handler{serve: hello})
	for _, name := range []string{"other.test", "127.0.0.1", ""} {
		conf := s.clientTLS()
		conf.ServerName, conf.InsecureSkipVerify = name, true
		begun := time.Now()
		_, err := s.dialEarly(t.Context(), "", conf, nil)
		var te *quic.TransportError
		if took := time.Since(begun); !errors.As(err, &te) || te.ErrorCode != 0x100+112 || took > time.Second {
			t.Errorf("%q: %v after %v", name, err, took)
		}
	}
	if n := s.opened.Load(); n != 0 {
		t.Errorf("%d connections opened", n)
	}
}

func TestNameIsAskedInLowerCase(t *testing.T) {
	names := make(chan string, 10)
	s := start(t, &handler{serve: hello}, func(o *Options) {
		byName := o.TLS
		o.TLS = func(name string) *tls.Config { names <- name; return byName(name) }
	})
	conf := s.clientTLS()
	conf.ServerName = "SITE.Test"
	c, err := s.dialEarly(t.Context(), "", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.CloseWithError(codeNone, "")
	if name := <-names; name != "site.test" {
		t.Errorf("%q", name)
	}
	if serverName("A.example.") != "a.example" {
		t.Error("trailing dot")
	}
}

func TestDrainLosesNothing(t *testing.T) {
	release, begun := make(chan struct{}), make(chan struct{}, 1)
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		if string(ex.Request.Method) == "POST" {
			begun <- struct{}{}
			<-release
		}
		answer(ex, 200, []byte(strings.Repeat("x", 100<<10)))
	}})
	c := s.greeted()
	slow := c.open(request("POST"))
	<-begun
	s.Drain()
	s.Drain()
	// Until the second GOAWAY requests are still answered, afterwards they
	// are rejected, which says that they may be sent again.
	rejected := false
	for !rejected {
		r := c.reply(c.send(get()))
		if r.err == nil {
			continue
		}
		wantStream(t, r.err, codeRejected)
		rejected = true
	}
	if _, err := s.dialEarly(t.Context(), "", s.clientTLS(), nil); err == nil {
		t.Error("a new connection was taken")
	}
	close(release)
	slow.Close()
	if r := c.reply(slow); r.status != "200" || len(r.body) != 100<<10 || r.err != nil {
		t.Errorf("the exchange was cut: %s %d %v", r.status, len(r.body), r.err)
	}
	c.wantClosed(codeNone)
	if err := <-s.serving; err != nil {
		t.Error(err)
	}
	if o, cl := s.opened.Load(), s.closed.Load(); o != 1 || cl != 1 {
		t.Errorf("opened %d, closed %d", o, cl)
	}
}

func TestDrainUnderLoad(t *testing.T) {
	s := start(t, &handler{serve: hello})
	tr := &http3.Transport{TLSClientConfig: s.clientTLS(), Dial: s.dialEarly}
	defer tr.Close()
	client := &http.Client{Transport: tr}
	var answered atomic.Int32
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for {
				resp, err := client.Get("https://site.test/")
				if err != nil {
					return // the connection goes away, and no other is taken
				}
				b, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || string(b) != "hello" {
					t.Errorf("cut: %q %v", b, err)
				}
				if answered.Add(1) == 100 {
					go s.Drain()
				}
			}
		})
	}
	clients.Wait()
	<-s.serving
}

// sessions remembers tickets and tells when there is one.
type sessions struct {
	tls.ClientSessionCache
	stored chan struct{}
}

func (s *sessions) Put(key string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put(key, state)
	if state != nil {
		select {
		case s.stored <- struct{}{}:
		default:
		}
	}
}

func TestEarlyData(t *testing.T) {
	type seen struct{ method, early string }
	got := make(chan seen, 10)
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		v, _ := ex.Request.Header.Get(message.EarlyData)
		got <- seen{string(ex.Request.Method), string(v)}
		hello(ctx, ex)
	}})
	cache := &sessions{tls.NewLRUClientSessionCache(10), make(chan struct{}, 1)}
	conf := s.clientTLS()
	conf.ClientSessionCache = cache
	first, err := s.dialEarly(t.Context(), "", conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-cache.stored
	first.CloseWithError(codeNone, "")

	// The server's flight is held back, so that the handshake cannot complete
	// before the server has seen the requests.
	hold := newHolder(t, s.addr)
	udp, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	tr := &quic.Transport{Conn: udp}
	defer udp.Close()
	defer tr.Close()
	q, err := tr.DialEarly(t.Context(), hold.front.LocalAddr(), conf, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.CloseWithError(codeNone, "")
	c := &raw{q, t}
	post := c.send(slices(request("POST"), frame(frameData, []byte("x"))))
	plain := c.send(get())
	if g := <-got; g != (seen{"GET", "1"}) {
		t.Errorf("first came %+v", g)
	}
	hold.release()
	if g := <-got; g != (seen{"POST", ""}) {
		t.Errorf("then came %+v", g)
	}
	for _, str := range []*quic.Stream{post, plain} {
		if r := c.reply(str); r.status != "200" {
			t.Errorf("%+v", r)
		}
	}
	if !q.ConnectionState().Used0RTT {
		t.Error("no early data was used")
	}
	c.reply(c.send(get("early-data", "1")))
	if g := <-got; g != (seen{"GET", "1"}) {
		t.Errorf("a proxy before us: %+v", g)
	}
}

// holder is a UDP relay that keeps what the server sends until it is released:
// until then the client can only send early data.
type holder struct {
	front, back *net.UDPConn
	mu          sync.Mutex
	peer        *net.UDPAddr
	open        bool
	held        [][]byte
}

func newHolder(t *testing.T, server string) *holder {
	t.Helper()
	front, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	to, _ := net.ResolveUDPAddr("udp4", server)
	back, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	h := &holder{front: front, back: back}
	var both sync.WaitGroup
	both.Go(h.up)
	both.Go(h.down)
	t.Cleanup(func() { front.Close(); back.Close(); both.Wait() })
	return h
}

func (h *holder) up() {
	b := make([]byte, 64<<10)
	for {
		n, from, err := h.front.ReadFromUDP(b)
		if err != nil {
			return
		}
		h.mu.Lock()
		h.peer = from
		h.mu.Unlock()
		h.back.Write(b[:n])
	}
}

func (h *holder) down() {
	b := make([]byte, 64<<10)
	for {
		n, err := h.back.Read(b)
		if err != nil {
			return
		}
		h.mu.Lock()
		if h.open {
			h.front.WriteToUDP(b[:n], h.peer)
		} else {
			h.held = append(h.held, append([]byte(nil), b[:n]...))
		}
		h.mu.Unlock()
	}
}

func (h *holder) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = true
	for _, p := range h.held {
		h.front.WriteToUDP(p, h.peer)
	}
}

func TestRestartTellsClients(t *testing.T) {
	dir := t.TempDir()
	s := start(t, &handler{serve: hello}, func(o *Options) { o.StateDir = dir })
	c := s.greeted()
	if r := c.reply(c.send(get())); r.status != "200" {
		t.Fatalf("%+v", r)
	}
	s.Conn.UDPConn.Close() // the process is gone without a word
	<-s.serving
	again := start(t, &handler{serve: hello}, func(o *Options) {
		o.StateDir = dir
		o.Conn.Close()
		sock, err := Listen(s.addr)
		if err != nil {
			t.Fatal(err)
		}
		o.Conn = sock
	})
	r := c.reply(c.send(get()))
	var reset *quic.StatelessResetError
	if !errors.As(r.err, &reset) {
		t.Errorf("the client hangs: %v", r.err)
	}
	_ = again
}

func TestKeys(t *testing.T) {
	dir := t.TempDir()
	first, err := loadKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keysFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v %v", info, err)
	}
	second, err := loadKeys(dir)
	if err != nil || *second != *first {
		t.Errorf("the keys did not last: %v", err)
	}
	whole, _ := os.ReadFile(path)
	for _, broken := range [][]byte{{}, whole[:40], append(whole, 0), append([]byte("another mark  1\n"), whole[16:]...)} {
		os.WriteFile(path, broken, 0o600)
		third, err := loadKeys(dir)
		if err != nil || *third == *first {
			t.Errorf("a broken file of %d bytes counted: %v", len(broken), err)
		}
		if fourth, _ := loadKeys(dir); *fourth != *third {
			t.Error("the new keys did not last")
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	if _, err := New(Options{StateDir: filepath.Join(dir, "none")}); err == nil {
		t.Error("a directory that is not there")
	}
}

func TestConnectionIDs(t *testing.T) {
	g := connIDs{9}
	a, _ := g.GenerateConnectionID()
	b, _ := g.GenerateConnectionID()
	if a == b || a.Len() != g.ConnectionIDLen() || a.Bytes()[0] != 9 || b.Bytes()[0] != 9 {
		t.Errorf("%v %v", a, b)
	}
}

func TestManyHandshakesValidateAddresses(t *testing.T) {
	var h handshakes
	now := time.Now()
	for i := range handshakeBurst {
		if h.begin(now) {
			t.Fatalf("after %d", i)
		}
	}
	if !h.begin(now) {
		t.Error("no Retry under load")
	}
	h.done()
	if h.begin(now) {
		t.Error("one has completed")
	}
	if h.begin(now.Add(time.Second)) {
		t.Error("some are forgotten")
	}
	s := start(t, &handler{serve: hello})
	s.handshakes.mu.Lock()
	s.handshakes.open, s.handshakes.settled = handshakeBurst*10, time.Now()
	s.handshakes.mu.Unlock()
	c := s.greeted() // with a Retry
	if r := c.reply(c.send(get())); r.status != "200" {
		t.Errorf("%+v", r)
	}
}

func TestWildcardSocket(t *testing.T) {
	local := make(chan string, 1)
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		local <- ex.Client.Local.Addr().String()
		hello(ctx, ex)
	}}, func(o *Options) {
		o.Conn.Close()
		sock, err := Listen(":0")
		if err != nil {
			t.Fatal(err)
		}
		o.Conn = sock
	})
	s.addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(int(s.Conn.Addr().Port())))
	c := s.greeted()
	if r := c.reply(c.send(get())); r.status != "200" || <-local != "127.0.0.1" {
		t.Errorf("%+v", r)
	}
	if _, err := Listen(""); err == nil {
		t.Error("no address")
	}
}
