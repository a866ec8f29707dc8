package h3

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"usher/proxy/message"
)

func TestRequest(t *testing.T) {
	clients := make(chan *message.Client, 1)
	h := &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		clients <- ex.Client
		hello(ctx, ex)
	}}
	s := start(t, h)
	resp, err := s.client().Get("https://site.test/x?y")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || string(b) != "hello" || resp.StatusCode != 200 || resp.ContentLength != 5 {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
	got := <-clients
	if got.ServerName != "site.test" || got.ALPN != "h3" || !got.TLS || got.Proto != message.HTTP3 || !got.Addr.Addr().Is4() {
		t.Errorf("client %+v", got)
	}
}

func TestBodies(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		r := &ex.Response
		r.Status, r.Length = 200, message.Unknown
		ex.Stream.WriteHead(r)
		io.CopyBuffer(struct{ io.Writer }{ex.Stream}, struct{ io.Reader }{ex.Request.Body}, make([]byte, 32<<10))
		ex.Stream.CloseWrite(nil)
	}})
	for _, size := range []int{1, 1000, 4096, 16 << 10, 5 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		resp, err := s.client().Post("https://site.test/", "text/plain", struct{ io.Reader }{bytes.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(b, body) {
			t.Errorf("%d bytes came back as %d: %v", size, len(b), err)
		}
	}
}

func TestTrailersAndInterim(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		io.Copy(io.Discard, ex.Request.Body)
		sum, _ := ex.Request.Trailer.Lookup("x-sum")
		early := message.Response{Status: 103}
		early.Header.AddString("Link", "</a>")
		ex.Stream.WriteHead(&early)
		ex.Stream.WriteHead(&message.Response{Status: 200, Length: message.Unknown})
		ex.Stream.Write([]byte("b"))
		var trailer message.Header
		trailer.Add([]byte("X-Echo"), sum)
		ex.Stream.CloseWrite(&trailer)
	}})
	c := s.greeted()
	r := c.reply(c.send(slices(request("POST"), frame(frameData, []byte("abc")), headers("x-sum", "42", "x-request-id", "forged"))))
	if r.err != nil || r.status != "200" || string(r.body) != "b" || r.trailer["x-echo"] != "42" || len(r.interim) != 1 {
		t.Errorf("%+v", r)
	}
}

func slices(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestEarlyAnswer(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) { answer(ex, 403, []byte("no")) }})
	r, w := io.Pipe()
	defer w.Close()
	resp, err := s.client().Post("https://site.test/", "text/plain", r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 403 || string(b) != "no" {
		t.Errorf("%d %q", resp.StatusCode, b)
	}
}

func TestHeadAndEmpty(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		if string(ex.Request.Method) == "HEAD" {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: 1000})
			ex.Stream.CloseWrite(nil)
			return
		}
		answer(ex, 204, nil)
	}})
	c := s.greeted()
	r := c.reply(c.send(request("HEAD")))
	if r.status != "200" || r.header["content-length"] != "1000" || len(r.body) > 0 || r.err != nil {
		t.Errorf("HEAD: %+v", r)
	}
	r = c.reply(c.send(get()))
	if _, has := r.header["content-length"]; r.status != "204" || has || r.header["date"] == "" {
		t.Errorf("204: %+v", r)
	}
}

func TestSmallBodyGoesWithTheHead(t *testing.T) {
	got := make(chan int64, 1)
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		got <- ex.Request.Length
		hello(ctx, ex)
	}})
	c := s.greeted()
	if r := c.reply(c.send(slices(request("POST"), frame(frameData, []byte("abc"))))); string(r.body) != "abc" {
		t.Errorf("%+v", r)
	}
	if n := <-got; n != 3 {
		t.Errorf("length %d", n)
	}
}

func TestGetWhoseEndComesLate(t *testing.T) {
	got := make(chan bool, 1)
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		got <- ex.Request.Body != nil
		hello(ctx, ex)
	}})
	c := s.greeted()
	str := c.open(slices(get(), frame(reserved, []byte("grease"))))
	str.Close()
	if r := c.reply(str); r.status != "200" {
		t.Errorf("%+v", r)
	}
	if <-got {
		t.Error("a GET became one with a body")
	}
}

func TestLargeHead(t *testing.T) {
	value := strings.Repeat("v", 20<<10)
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		v, _ := ex.Request.Header.Lookup("x-large")
		r := &ex.Response
		r.Status, r.Length = 200, 0
		r.Header.Add([]byte("X-Back"), v)
		ex.Stream.WriteHead(r)
		ex.Stream.CloseWrite(nil)
	}})
	req, _ := http.NewRequest("GET", "https://site.test/", nil)
	req.Header.Set("X-Large", value)
	resp, err := s.client().Do(req)
	if err == nil {
		defer resp.Body.Close()
	}
	if err != nil || resp.Header.Get("X-Back") != value {
		t.Fatalf("%v", err)
	}
}

func TestPanic(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) { panic("x") }})
	c := s.greeted()
	for range 3 {
		if r := c.reply(c.send(get())); r.status != "500" || r.err != nil {
			t.Errorf("%+v", r)
		}
	}
}
