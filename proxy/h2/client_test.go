//lint:file-ignore SA1019 The peer of these tests is the HTTP/2 of x/net, whatever net/http prefers.

package h2

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// roundTrip posts body with Go's client and returns the answer.
func roundTrip(cc *http2.ClientConn, body []byte) ([]byte, error) {
	req, err := http.NewRequest("POST", "https://a.example/", io.NopCloser(bytes.NewReader(body)))
	if err != nil {
		return nil, err
	}
	res, err := cc.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	return io.ReadAll(res.Body)
}

// vm is Go's server at the other end of a ClientConn.
func vm(t testing.TB, h http.HandlerFunc) *ClientConn {
	t.Helper()
	s, c := pair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&http2.Server{}).ServeConn(c, &http2.ServeConnOpts{Handler: h})
	}()
	cc := NewClientConn(s, s)
	run(t, cc)
	t.Cleanup(func() { c.Close(); <-done })
	return cc
}

// run runs a ClientConn until the end of the test.
func run(t testing.TB, cc *ClientConn) {
	ended := make(chan error, 1)
	go func() { ended <- cc.Run(context.Background()) }()
	t.Cleanup(func() {
		cc.Close()
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			t.Error("Run did not end")
		}
	})
}

// bytesBody is a request body.
type bytesBody struct{ *bytes.Reader }

func (bytesBody) Stop(error) {}

// pipeBody is one that comes bit by bit.
type pipeBody struct{ *io.PipeReader }

func (p pipeBody) Stop(err error) { p.CloseWithError(err) }

// deaf is a client that takes interim heads and is never gone.
type deaf struct {
	message.Stream
	mu    sync.Mutex
	heads []int
	gone  func()
	asked chan struct{}
}

func (d *deaf) WriteHead(r *message.Response) error { d.heads = append(d.heads, r.Status); return nil }

func (d *deaf) Watch(gone func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.gone = gone; gone != nil && d.asked != nil {
		close(d.asked)
	}
}

func exchangeFor(method, path string, body message.Body, length int64) *message.Exchange {
	ex := &message.Exchange{Client: &message.Client{}, Stream: &deaf{}}
	ex.Request = message.Request{Method: []byte(method), Scheme: []byte("https"), Authority: []byte("a.example"), Path: []byte(path), Length: length, Body: body}
	ex.Request.Header.AddString("X-Mixed-Case", "yes")
	return ex
}

func open(t testing.TB, cc *ClientConn) *Call {
	t.Helper()
	call, ok := cc.Open()
	if !ok {
		t.Fatal("the connection takes no call")
	}
	return call
}

func TestCallsAreEchoed(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Mixed-Case") != "yes" || r.Host != "a.example" {
			t.Errorf("%v", r)
		}
		w.Header().Set("Trailer", "X-Sum")
		n, _ := io.Copy(w, r.Body)
		w.Header().Set("X-Sum", strconv.FormatInt(n, 10))
	})
	var wg sync.WaitGroup
	for _, size := range []int{0, 1, 1000, 20_000, 3 << 20, 500_000} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			sent := make([]byte, size)
			rand.Read(sent)
			ex := exchangeFor("POST", "/", bytesBody{bytes.NewReader(sent)}, int64(size))
			call, ok := cc.Open()
			if !ok {
				t.Error("no call")
				return
			}
			if err := call.RoundTrip(context.Background(), ex, 0); err != nil {
				t.Error(err)
				return
			}
			var got []byte
			var err error
			if ex.Response.Body != nil {
				got, err = io.ReadAll(ex.Response.Body)
			}
			if err != nil || ex.Response.Status != 200 || !bytes.Equal(got, sent) {
				t.Errorf("%d: %d of %d bytes, %v", ex.Response.Status, len(got), size, err)
			}
			if v, _ := ex.Response.Trailer.Lookup("x-sum"); size > 0 && string(v) != strconv.Itoa(size) {
				t.Errorf("trailer %q", v)
			}
			if !call.Finish() {
				t.Error("not usable any more")
			}
		}()
	}
	wg.Wait()
	if n := cc.Calls(); n != 0 {
		t.Errorf("%d calls are left", n)
	}
}

// TestBothDirectionsAtOnce is a gRPC stream: each message is answered before
// the next is sent.
func TestBothDirectionsAtOnce(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			w.(http.Flusher).Flush()
			if err != nil {
				return
			}
		}
	})
	r, w := io.Pipe()
	ex := exchangeFor("POST", "/", pipeBody{r}, message.Unknown)
	call := open(t, cc)
	if err := call.RoundTrip(context.Background(), ex, 0); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	for range 50 {
		io.WriteString(w, "hello")
		if _, err := io.ReadFull(ex.Response.Body, buf[:5]); err != nil || string(buf[:5]) != "hello" {
			t.Fatal(err)
		}
	}
	w.Close()
	if rest, err := io.ReadAll(ex.Response.Body); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	call.Finish()
}

func TestEarlyAnswerStopsTheUpload(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) })
	r, w := io.Pipe()
	ex := exchangeFor("POST", "/", pipeBody{r}, message.Unknown)
	call := open(t, cc)
	if err := call.RoundTrip(context.Background(), ex, 0); err != nil || ex.Response.Status != 413 {
		t.Fatal(err)
	}
	if !call.Finish() {
		t.Error("the connection is not usable")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("somebody still reads")
	}
}

func TestInterimHeads(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(103)
		w.WriteHeader(204)
	})
	ex := exchangeFor("GET", "/", nil, 0)
	call := open(t, cc)
	if err := call.RoundTrip(context.Background(), ex, 0); err != nil || ex.Response.Status != 204 || ex.Response.Body != nil {
		t.Fatal(err, ex.Response.Status)
	}
	if h := ex.Stream.(*deaf).heads; len(h) != 1 || h[0] != 103 {
		t.Errorf("heads %v", h)
	}
	call.Finish()
}

// fake is a VM that speaks raw frames.
func fake(t testing.TB, settings ...http2.Setting) (*ClientConn, *peer) {
	s, c := pair(t)
	cc := NewClientConn(s, s)
	run(t, cc)
	t.Cleanup(func() { c.Close() }) // before run waits: nobody has to linger
	p := newPeer(t, c)
	preface := make([]byte, len(http2.ClientPreface))
	io.ReadFull(c, preface)
	p.fr.WriteSettings(settings...)
	for {
		if s, ok := p.read().(*http2.SettingsFrame); ok && s.IsAck() {
			p.fr.WriteSettingsAck()
			return cc, p
		}
	}
}

func (p *peer) request() *http2.HeadersFrame {
	for {
		if f, ok := p.read().(*http2.HeadersFrame); ok {
			return f
		}
	}
}

// begin makes a call that the test answers.
func begin(t *testing.T, cc *ClientConn, ex *message.Exchange, silent time.Duration) (*Call, chan error) {
	call, done := open(t, cc), make(chan error, 1)
	go func() { done <- call.RoundTrip(context.Background(), ex, silent) }()
	return call, done
}

func blamed(err error) (message.Side, int, bool) {
	var e *message.Error
	if !errors.As(err, &e) {
		return message.Nobody, 0, false
	}
	return e.Side, e.Status, e.Replay
}

func TestRefusedAndGoneAwayMayBeReplayed(t *testing.T) {
	cc, p := fake(t)
	call, done := begin(t, cc, exchangeFor("POST", "/", nil, 0), 0)
	p.fr.WriteRSTStream(p.request().StreamID, http2.ErrCodeRefusedStream)
	if s, status, replay := blamed(<-done); s != message.VMSide || status != 502 || !replay {
		t.Error(s, status, replay)
	}
	call.Finish()

	first, done1 := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	id := p.request().StreamID
	second, done2 := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	p.request()
	p.fr.WriteGoAway(id, http2.ErrCodeNo, nil)
	if s, _, replay := blamed(<-done2); s != message.VMSide || !replay {
		t.Error(s, replay)
	}
	second.Finish()
	if _, ok := cc.Open(); ok || cc.Usable() {
		t.Error("takes calls after GOAWAY")
	}
	p.headers(id, true, ":status", "204")
	if err := <-done1; err != nil {
		t.Error(err)
	}
	if first.Finish() {
		t.Error("usable")
	}
}

func TestCutConnectionIsNoReplay(t *testing.T) {
	cc, p := fake(t)
	call, done := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	p.request()
	p.conn.Close()
	if s, status, replay := blamed(<-done); s != message.VMSide || status != 502 || replay {
		t.Error(s, status, replay)
	}
	if call.Answered() || call.Finish() {
		t.Error("answered or usable")
	}
}

func TestSilentVM(t *testing.T) {
	cc, p := fake(t)
	call, done := begin(t, cc, exchangeFor("GET", "/", nil, 0), 100*time.Millisecond)
	p.request()
	if s, status, _ := blamed(<-done); s != message.VMSide || status != 504 {
		t.Error(s, status)
	}
	call.Finish()
	for {
		if r, ok := p.read().(*http2.RSTStreamFrame); ok {
			if r.ErrCode != http2.ErrCodeCancel {
				t.Error(r.ErrCode)
			}
			return
		}
	}
}

func TestClientThatLeavesCancelsTheCall(t *testing.T) {
	cc, p := fake(t)
	ex := exchangeFor("GET", "/", nil, 0)
	d := &deaf{asked: make(chan struct{})}
	ex.Stream = d
	call, done := begin(t, cc, ex, 0)
	p.request()
	<-d.asked
	d.gone()
	if s, _, _ := blamed(<-done); s != message.ClientSide {
		t.Error(s)
	}
	call.Finish()
	if r := p.await(1); r.reset == nil || *r.reset != http2.ErrCodeCancel {
		t.Errorf("%+v", r)
	}
}

func TestFewStreamsAllowed(t *testing.T) {
	cc, p := fake(t, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})
	call, done := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
	id := p.request().StreamID
	if cc.Available() || !cc.Usable() {
		t.Error("a second call is allowed")
	}
	p.headers(id, true, ":status", "200", "content-length", "0")
	<-done
	call.Finish()
	if !cc.Available() {
		t.Error("no call is allowed")
	}
}

// TestBadAnswers: each fails that call alone, on the VM's account.
func TestBadAnswers(t *testing.T) {
	cc, p := fake(t)
	for name, fields := range map[string][]string{
		"no status":       {"x", "y"},
		"two statuses":    {":status", "200", ":status", "200"},
		"odd status":      {":status", "2000"},
		"101":             {":status", "101"},
		"upper case":      {":status", "200", "X", "y"},
		"line break":      {":status", "200", "x", "a\r\nb"},
		"connection":      {":status", "200", "connection", "close"},
		"chunked":         {":status", "200", "transfer-encoding", "chunked"},
		"two lengths":     {":status", "200", "content-length", "1", "content-length", "1"},
		"length, no body": {":status", "200", "content-length", "1"},
	} {
		call, done := begin(t, cc, exchangeFor("GET", "/", nil, 0), 0)
		p.headers(p.request().StreamID, true, fields...)
		if s, status, _ := blamed(<-done); s != message.VMSide || status != 502 {
			t.Errorf("%s: %v %d", name, s, status)
		}
		call.Finish()
	}
	if !cc.Available() {
		t.Error("the connection is lost")
	}
}

func TestShortBodyIsTheVMsFault(t *testing.T) {
	cc, p := fake(t)
	ex := exchangeFor("GET", "/", nil, 0)
	call, done := begin(t, cc, ex, 0)
	id := p.request().StreamID
	p.headers(id, false, ":status", "200", "content-length", "10")
	p.fr.WriteData(id, true, []byte("short"))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	_, err := io.ReadAll(ex.Response.Body)
	if s, _, _ := blamed(err); s != message.VMSide {
		t.Error(err)
	}
	call.Finish()
}

func TestExtendedConnectToAVM(t *testing.T) {
	cc, p := fake(t, http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
	ex := exchangeFor("GET", "/", nil, 0)
	ex.Request.Upgrade = []byte("websocket")
	ex.Request.Header.AddString("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	call, done := begin(t, cc, ex, 0)
	f := p.request()
	if h := p.decode(f.HeaderBlockFragment()); h[":method"] != "CONNECT" || h[":protocol"] != "websocket" || h["sec-websocket-key"] != "" {
		t.Errorf("%q", h)
	}
	p.headers(f.StreamID, false, ":status", "200")
	if err := <-done; err != nil || ex.Response.Status != 101 {
		t.Fatal(err)
	}
	if v, _ := ex.Response.Header.Lookup("Sec-WebSocket-Accept"); string(v) != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("accept %q", v)
	}
	d := call.Duplex()
	io.WriteString(d, "to the VM")
	d.CloseWrite()
	p.fr.WriteData(f.StreamID, true, []byte("from it"))
	if b, err := io.ReadAll(d); err != nil || string(b) != "from it" {
		t.Error(string(b), err)
	}
	if r := p.await(f.StreamID); string(r.body) != "to the VM" {
		t.Errorf("%+v", r)
	}
	d.Close()
	if cc.Calls() != 0 {
		t.Error("the call is still counted")
	}
}

// TestLeavingAtTheEnd: a client that goes just when its call ends disturbs
// neither the call nor the next one that uses its memory.
func TestLeavingAtTheEnd(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	for range 300 {
		ctx, cancel := context.WithCancel(t.Context())
		call, ex := open(t, cc), exchangeFor("GET", "/", nil, 0)
		if err := call.RoundTrip(ctx, ex, 0); err != nil {
			t.Fatal(err)
		}
		call.after()
		cancel()
		call.Finish()
	}
}

// TestTrailersWithoutBody: a head that is followed at once by trailers loses
// none of them.
func TestTrailersWithoutBody(t *testing.T) {
	cc := vm(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.WriteHeader(200)
		w.Header().Set("Grpc-Status", "5")
	})
	for range 200 {
		call, ex := open(t, cc), exchangeFor("GET", "/", nil, 0)
		if err := call.RoundTrip(t.Context(), ex, 0); err != nil {
			t.Fatal(err)
		}
		if ex.Response.Body == nil {
			t.Fatal("no body, and so no trailers")
		}
		if b, err := io.ReadAll(ex.Response.Body); err != nil || len(b) > 0 {
			t.Errorf("%q, %v", b, err)
		}
		if v, _ := ex.Response.Trailer.Lookup("grpc-status"); string(v) != "5" {
			t.Fatalf("%q", v)
		}
		call.Finish()
	}
}
