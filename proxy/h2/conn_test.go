//lint:file-ignore SA1019 The peer of these tests is the HTTP/2 of x/net, whatever net/http prefers.

package h2

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// seen is what the handler was given.
type seen struct {
	method, path, authority, upgrade string
	length                           int64
	fields                           map[string]string
	expect, trailers                 bool
}

func record(to chan<- seen) func(context.Context, *message.Exchange) {
	return func(_ context.Context, ex *message.Exchange) {
		q := &ex.Request
		got := seen{string(q.Method), string(q.Path), string(q.Authority), string(q.Upgrade), q.Length, map[string]string{}, q.ExpectContinue, q.AcceptTrailers}
		for _, f := range q.Header.All() {
			got.fields[string(f.Name)] += string(f.Value)
		}
		to <- got
		answer(ex, 200, nil)
	}
}

func TestRequestBecomesAMessage(t *testing.T) {
	heads := make(chan seen, 1)
	_, c := serve(t, &testConfig, record(heads))
	p := client(t, c)
	p.headers(1, false, ":method", "PUT", ":scheme", "https", ":authority", "A.example:8443", ":path", "/x?y=%20",
		"cookie", "a=1", "accept", "*/*", "cookie", "b=2", "te", "trailers", "expect", "100-continue", "content-length", "7",
		"x-odd", "  spaced\t", "cookie", "c=3", "host", "a.example:8443")
	if r := p.await(1); r.status != "200" {
		t.Fatalf("%+v", r)
	}
	got := <-heads
	if got.method != "PUT" || got.path != "/x?y=%20" || got.authority != "A.example:8443" || got.length != 7 || !got.expect || !got.trailers {
		t.Errorf("%+v", got)
	}
	want := map[string]string{"cookie": "a=1; b=2; c=3", "accept": "*/*", "x-odd": "spaced"}
	if len(got.fields) != len(want) {
		t.Errorf("fields %q", got.fields)
	}
	for k, v := range want {
		if got.fields[k] != v {
			t.Errorf("%s: %q, want %q", k, got.fields[k], v)
		}
	}
}

var good = []string{":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/"}

func with(extra ...string) []string { return append(append([]string(nil), good...), extra...) }

func replace(name, value string) []string {
	f := with()
	for i := 0; i < len(f); i += 2 {
		if f[i] == name {
			f[i+1] = value
		}
	}
	return f
}

func without(name string) (f []string) {
	for i := 0; i < len(good); i += 2 {
		if good[i] != name {
			f = append(f, good[i], good[i+1])
		}
	}
	return f
}

// TestMalformedRequests: none reaches the handler, each is told of once. An
// empty status is a stream error.
func TestMalformedRequests(t *testing.T) {
	many := with()
	for range fields.MaxFields + 1 {
		many = append(many, "x", "y")
	}
	cases := map[string]struct {
		fields []string
		status string
	}{
		"upper case name":            {with("X-Y", "z"), ""},
		"empty name":                 {with("", "z"), ""},
		"colon in a name":            {with("x:y", "z"), ""},
		"space in a name":            {with("x y", "z"), ""},
		"line break in a name":       {with("x\r\ny", "z"), ""},
		"CR in a value":              {with("x", "a\rb"), ""},
		"LF in a value":              {with("x", "a\nb"), ""},
		"NUL in a value":             {with("x", "a\x00b"), ""},
		"DEL in a value":             {with("x", "0123456789abcdef\x7f"), ""},
		"connection":                 {with("connection", "close"), ""},
		"keep-alive":                 {with("keep-alive", "x"), ""},
		"proxy-connection":           {with("proxy-connection", "x"), ""},
		"transfer-encoding":          {with("transfer-encoding", "chunked"), ""},
		"upgrade":                    {with("upgrade", "h2c"), ""},
		"te":                         {with("te", "gzip"), ""},
		"te with trailers":           {with("te", "trailers, gzip"), ""},
		"unknown pseudo-field":       {append([]string{":foo", "x"}, good...), ""},
		"response pseudo-field":      {append([]string{":status", "200"}, good...), ""},
		"pseudo-field twice":         {append([]string{":path", "/"}, good...), ""},
		"pseudo-field after others":  {append([]string{"x", "y"}, good...), ""},
		"no method":                  {without(":method"), ""},
		"no scheme":                  {without(":scheme"), ""},
		"no path":                    {without(":path"), ""},
		"no authority":               {without(":authority"), "400"},
		"empty method":               {replace(":method", ""), ""},
		"method with a space":        {replace(":method", "GET /"), ""},
		"long method":                {replace(":method", "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHI"), ""},
		"odd scheme":                 {replace(":scheme", "ftp"), ""},
		"scheme with a break":        {replace(":scheme", "https\r\n"), ""},
		"empty path":                 {replace(":path", ""), ""},
		"path without a slash":       {replace(":path", "x"), ""},
		"star for GET":               {replace(":path", "*"), ""},
		"absolute path":              {replace(":path", "https://a/"), ""},
		"space in the path":          {replace(":path", "/ HTTP/1.1"), ""},
		"fragment in the path":       {replace(":path", "/#x"), ""},
		"control in the path":        {replace(":path", "/\x01"), ""},
		"high byte in the path":      {replace(":path", "/\xff"), ""},
		"NUL escape in the path":     {replace(":path", "/%00"), ""},
		"bad escape in the path":     {replace(":path", "/%2"), ""},
		"long path":                  {replace(":path", "/"+string(bytes.Repeat([]byte("x"), 16<<10))), "414"},
		"userinfo":                   {replace(":authority", "u@a.example"), ""},
		"empty authority":            {replace(":authority", ""), ""},
		"two authorities":            {replace(":authority", "a,b"), ""},
		"slash in the authority":     {replace(":authority", "a/b"), ""},
		"break in the authority":     {replace(":authority", "a\r\nb"), ""},
		"odd port":                   {replace(":authority", "a:x"), ""},
		"host differs":               {with("host", "b.example"), ""},
		"host twice":                 {with("host", "a.example", "host", "a.example"), ""},
		"length with a sign":         {with("content-length", "+0"), ""},
		"empty length":               {with("content-length", ""), ""},
		"length list":                {with("content-length", "0, 0"), ""},
		"length twice":               {with("content-length", "0", "content-length", "0"), ""},
		"length without a body":      {with("content-length", "50"), ""},
		"huge length":                {with("content-length", "9223372036854775808"), ""},
		"odd expectation":            {with("expect", "x"), "417"},
		"many fields":                {many, "431"},
		"CONNECT":                    {[]string{":method", "CONNECT", ":authority", "a:443"}, "405"},
		"CONNECT with a path":        {replace(":method", "CONNECT"), ""},
		"protocol without CONNECT":   {append([]string{":protocol", "websocket"}, good...), ""},
		"protocol of requests":       {append([]string{":protocol", "h2c"}, replace(":method", "CONNECT")...), "501"},
		"websocket version missing":  {append([]string{":protocol", "websocket"}, replace(":method", "CONNECT")...), "426"},
		"websocket with a length":    {append(append([]string{":protocol", "websocket"}, replace(":method", "CONNECT")...), "content-length", "3"), ""},
		"name that is hpack's :path": {with(":path", "/"), ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			srv, c := serve(t, &testConfig, hello)
			p := client(t, c)
			p.headers(1, true, tc.fields...)
			r := p.await(1)
			if tc.status != r.status || tc.status == "" && (r.reset == nil || *r.reset != http2.ErrCodeProtocol) {
				t.Errorf("%+v", r)
			}
			p.get(3)
			if r := p.await(3); r.status != "200" {
				t.Errorf("the connection did not go on: %+v", r)
			}
			if got := srv.refused(); len(got) != 1 || srv.served.Load() != 1 {
				t.Errorf("malformed %v, served %d", got, srv.served.Load())
			}
		})
	}
}

// TestLengthThatDisagrees: the VM never sees a clean end.
func TestLengthThatDisagrees(t *testing.T) {
	for name, send := range map[string]func(*peer){
		"short":    func(p *peer) { p.fr.WriteData(1, true, []byte("xx")) },
		"long":     func(p *peer) { p.fr.WriteData(1, false, []byte("xxxx")) },
		"trailers": func(p *peer) { p.headers(1, true, "x", "y") },
	} {
		t.Run(name, func(t *testing.T) {
			clean := make(chan error, 1)
			_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
				_, err := io.ReadAll(ex.Request.Body)
				clean <- err
				ex.Stream.Abort(err)
			})
			p := client(t, c)
			p.post(1, "content-length", "3")
			send(p)
			if r := p.await(1); r.reset == nil || *r.reset != http2.ErrCodeProtocol {
				t.Errorf("%+v", r)
			}
			if err := <-clean; err == nil {
				t.Error("the body ended cleanly")
			}
		})
	}
}

func TestTrailersBothWays(t *testing.T) {
	got := make(chan string, 1)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		io.Copy(io.Discard, ex.Request.Body)
		v, _ := ex.Request.Trailer.Lookup("x-sum")
		if ex.Request.Trailer.Len() != 1 {
			v = nil
		}
		got <- string(v)
		ex.Response.Status, ex.Response.Length = 200, message.Unknown
		ex.Stream.WriteHead(&message.Response{Status: 103})
		ex.Stream.WriteHead(&ex.Response)
		ex.Stream.Write([]byte("body"))
		var tr message.Header
		tr.AddString("Grpc-Status", "0")
		ex.Stream.CloseWrite(&tr)
	})
	p := client(t, c)
	p.post(1)
	p.fr.WriteData(1, false, []byte("abc"))
	p.headers(1, true, "x-sum", "42", "content-length", "3", "set-cookie", "a", "content_type", "b", "if-match", "c")
	r := p.await(1)
	if r.status != "200" || string(r.body) != "body" || r.trailer["grpc-status"] != "0" {
		t.Errorf("%+v", r)
	}
	if v := <-got; v != "42" {
		t.Errorf("trailer %q", v)
	}
}

// TestLargeBodies echoes 20 MB through every window.
func TestLargeBodies(t *testing.T) {
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		ex.Response.Status, ex.Response.Length = 200, message.Unknown
		ex.Stream.WriteHead(&ex.Response)
		io.Copy(ex.Stream, ex.Request.Body)
		ex.Stream.CloseWrite(nil)
	})
	tr := &http2.Transport{}
	cc, err := tr.NewClientConn(c)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			body := make([]byte, 5<<20)
			rand.Read(body)
			echoed, err := roundTrip(cc, body)
			if err != nil || !bytes.Equal(echoed, body) {
				t.Errorf("%d bytes back, %v", len(echoed), err)
			}
		}()
	}
	wg.Wait()
}

// TestOneSlowStreamStallsNobody: 99 uploads finish beside one that nobody
// reads, and 99 downloads beside one that the client does not take.
func TestOneSlowStreamStallsNobody(t *testing.T) {
	release := make(chan struct{})
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		if _, slow := ex.Request.Header.Lookup("slow"); slow {
			<-release
		}
		hello(context.Background(), ex)
	})
	p := client(t, c)
	p.post(1, "slow", "1")
	for range 2 {
		p.fr.WriteData(1, false, make([]byte, maxFrame))
	}
	for id := uint32(3); id < 200; id += 2 {
		p.post(id)
		p.fr.WriteData(id, true, make([]byte, 8<<10))
		if r := p.await(id); len(r.body) != 8<<10 {
			t.Fatalf("stream %d: %+v", id, r)
		}
		p.fr.WriteWindowUpdate(0, 8<<10)
	}
	close(release)
	p.fr.WriteData(1, true, nil)
	if r := p.await(1); r.status != "200" || len(r.body) != 2*maxFrame {
		t.Errorf("%d bytes, %v", len(r.body), r.err)
	}
}

// TestUrgencyGoesFirst: while the window of the connection is used up, an
// urgent stream that comes last is the first to be served.
func TestUrgencyGoesFirst(t *testing.T) {
	srv, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) { answer(ex, 200, make([]byte, 100<<10)) })
	p := client(t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	p.get(1, "priority", "u=5, i")
	for got := 0; got < defaultWindow; {
		if f, ok := p.read().(*http2.DataFrame); ok {
			got += len(f.Data())
		}
	}
	p.get(3, "priority", "u=4")
	p.fr.WritePriorityUpdate(5, "u=0")
	p.get(5)
	eventually(t, "they wait", func() bool { return srv.blocked() == 3 })
	p.fr.WriteWindowUpdate(0, 200<<10) // more than it needs: one turn in eight is for who waited longest
	if r := p.await(5); len(r.body) != 100<<10 {
		t.Errorf("%d bytes, %v", len(r.body), r.err)
	}
}

// blocked counts the streams that wait to send.
func (s *server) blocked() int {
	s.Conn.mu.Lock()
	defer s.Conn.mu.Unlock()
	return len(s.Conn.waiting)
}

// TestDrainLosesNothing: requests that were under way are answered, the
// connection ends.
func TestDrainLosesNothing(t *testing.T) {
	release := make(chan struct{})
	srv, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		<-release
		answer(ex, 200, []byte("x"))
	})
	p := client(t, c)
	p.get(1)
	eventually(t, "the request is served", func() bool { return srv.served.Load() == 1 })
	srv.Drain()
	warned := false
	for !warned {
		if g, ok := p.read().(*http2.GoAwayFrame); ok {
			warned = g.LastStreamID == 1<<31-1 && g.ErrCode == http2.ErrCodeNo
		}
	}
	p.get(3) // was under way
	f := p.read()
	ping, ok := f.(*http2.PingFrame)
	if !ok {
		t.Fatalf("%v", f)
	}
	p.fr.WritePing(true, ping.Data)
	g, ok := p.read().(*http2.GoAwayFrame)
	if !ok || g.LastStreamID != 3 {
		t.Fatalf("%v", g)
	}
	p.get(5)
	if r := p.await(5); r.reset == nil || *r.reset != http2.ErrCodeRefusedStream {
		t.Fatalf("%+v", r)
	}
	close(release)
	a, b := p.await(1), result{}
	if a.status != "200" {
		t.Errorf("%+v", a)
	}
	b = p.await(3)
	if b.status == "" && a.status == "" {
		t.Errorf("%+v", b)
	}
	if err := srv.wait(t); err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestIdleConnectionEnds(t *testing.T) {
	cfg := testConfig
	cfg.KeepAlive = 60 * time.Millisecond
	srv, c := serve(t, &cfg, hello)
	p := client(t, c)
	p.get(1)
	p.await(1)
	if err := srv.wait(t); err != nil {
		t.Error(err)
	}
	if r := p.await(3); r.goaway == nil || *r.goaway != http2.ErrCodeNo {
		t.Errorf("%+v", r)
	}
}

func TestSlowBodyIs408(t *testing.T) {
	cfg := testConfig
	cfg.Timeouts.RequestBody = 60 * time.Millisecond
	_, c := serve(t, &cfg, func(_ context.Context, ex *message.Exchange) {
		_, err := io.ReadAll(ex.Request.Body)
		if e, ok := err.(*message.Error); ok && e.Status == 408 {
			answer(ex, 408, nil)
		}
	})
	p := client(t, c)
	p.post(1)
	p.fr.WriteData(1, false, []byte("x"))
	if r := p.await(1); r.status != "408" {
		t.Errorf("%+v", r)
	}
	if r := p.await(1); r.reset == nil || *r.reset != http2.ErrCodeNo {
		t.Errorf("%+v", r)
	}
}

// TestCancelReachesTheHandler: by the watch, by the body, and at the end of
// the connection by the context.
func TestCancelReachesTheHandler(t *testing.T) {
	gone, failed, ended := make(chan struct{}), make(chan error, 1), make(chan struct{})
	_, c := serve(t, &testConfig, func(ctx context.Context, ex *message.Exchange) {
		if ex.Request.Body == nil {
			<-ctx.Done()
			close(ended)
			return
		}
		ex.Stream.Watch(func() { close(gone) })
		_, err := io.ReadAll(ex.Request.Body)
		failed <- err
		<-gone
		ex.Stream.Watch(nil)
	})
	p := client(t, c)
	p.post(1)
	p.get(3)
	p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
	if e, ok := (<-failed).(*message.Error); !ok || e.Side != message.ClientSide || e.Err != message.ErrClientGone {
		t.Error(e)
	}
	<-gone
	c.Close()
	<-ended
}

func TestPanicEndsOneExchange(t *testing.T) {
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		if _, bad := ex.Request.Header.Lookup("bad"); bad {
			panic("on purpose")
		}
		hello(context.Background(), ex)
	})
	p := client(t, c)
	p.get(1, "bad", "1")
	if r := p.await(1); r.status != "500" {
		t.Errorf("%+v", r)
	}
	p.get(3)
	if r := p.await(3); r.status != "200" {
		t.Errorf("%+v", r)
	}
}

// TestWebSocket is an extended CONNECT whose handler plays an HTTP/1.1 VM.
func TestWebSocket(t *testing.T) {
	for _, honest := range []bool{true, false} {
		failed := make(chan error, 1)
		_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
			key, _ := ex.Request.Header.Get(message.SecWebSocketKey)
			if string(ex.Request.Method) != "GET" || string(ex.Request.Upgrade) != "websocket" || len(key) != 24 || ex.Request.Body != nil {
				t.Errorf("%q %q %q", ex.Request.Method, ex.Request.Upgrade, key)
			}
			r := &ex.Response
			r.Status, r.Upgrade = 101, ex.Request.Upgrade
			if honest {
				r.Header.AddString("Sec-WebSocket-Accept", string(fields.Acceptance(key)))
			}
			r.Header.AddString("Sec-WebSocket-Protocol", "chat")
			if err := ex.Stream.WriteHead(r); err != nil {
				ex.Stream.Abort(err)
				failed <- err
				return
			}
			d, err := ex.Stream.Upgrade()
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(d, d)
			d.CloseWrite()
			d.Close()
		})
		p := client(t, c)
		p.headers(1, false, append([]string{":protocol", "websocket"}, append(replace(":method", "CONNECT"), "sec-websocket-version", "13")...)...)
		if !honest {
			if r := p.await(1); r.reset == nil {
				t.Errorf("%+v", r)
			}
			if e, ok := (<-failed).(*message.Error); !ok || e.Side != message.VMSide {
				t.Error(e)
			}
			continue
		}
		p.fr.WriteData(1, false, []byte("ping"))
		p.fr.WriteData(1, true, []byte("pong"))
		r := p.await(1)
		if r.status != "200" || string(r.body) != "pingpong" || r.header["sec-websocket-protocol"] != "chat" || r.header["sec-websocket-accept"] != "" {
			t.Errorf("%+v", r)
		}
	}
}

// TestSmallWindows: whoever waits for a window has sent what fits it. Clients
// exist that open a window again only when it was used up.
func TestSmallWindows(t *testing.T) {
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) { answer(ex, 200, make([]byte, 100)) })
	p := client(t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	p.get(1)
	start := time.Now()
	for got := 0; got < 100; {
		if f, ok := p.read().(*http2.DataFrame); ok {
			got += len(f.Data())
			p.fr.WriteWindowUpdate(1, 10)
		}
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v: each window waited for a timer", took)
	}
}
