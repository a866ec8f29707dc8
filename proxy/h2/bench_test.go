//lint:file-ignore SA1019 The peer of these tests is the HTTP/2 of x/net, whatever net/http prefers.

package h2

import (
	"context"
	"io"
	"net"
	"testing"

	"golang.org/x/net/http2"

	"usher/proxy/message"
	"usher/proxy/socket"
)

var benchBody = []byte("hello, world")

func benchHandler(_ context.Context, ex *message.Exchange) {
	r := &ex.Response
	r.Status, r.Length = 200, int64(len(benchBody))
	r.Header.AddString("Content-Type", "text/plain")
	r.Header.AddString("Server", "vm")
	ex.Stream.WriteHead(r)
	ex.Stream.Write(benchBody)
	ex.Stream.CloseWrite(&r.Trailer)
}

// rawClient sends the same encoded request again and again and allocates
// nothing.
type rawClient struct {
	c     net.Conn
	id    uint32
	block []byte
	out   []byte
	in    []byte
}

func newRawClient(t testing.TB, c net.Conn) *rawClient {
	p := client(t, c)
	fields := []string{":method", "GET", ":scheme", "https", ":authority", "a.example", ":path", "/index.html",
		"user-agent", "bench/1.0", "accept", "*/*", "accept-encoding", "gzip, deflate"}
	p.headers(1, true, fields...)
	p.await(1)
	r := &rawClient{c: c, id: 3, block: append([]byte(nil), p.block(fields...)...), in: make([]byte, 64<<10)}
	return r
}

// burst sends n requests at once and reads until all are answered.
func (r *rawClient) burst(t testing.TB, n int) {
	r.out = r.out[:0]
	for range n {
		id := r.id
		r.id += 2
		r.out = append(r.out, 0, 0, byte(len(r.block)), byte(http2.FrameHeaders), 5, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
		r.out = append(r.out, r.block...)
	}
	r.out = append(r.out, 0, 0, 4, byte(http2.FrameWindowUpdate), 0, 0, 0, 0, 0, 0, 0, byte(n*len(benchBody)>>8), byte(n*len(benchBody)))
	if _, err := r.c.Write(r.out); err != nil {
		t.Fatal(err)
	}
	for have, at := 0, 0; n > 0; {
		k, err := r.c.Read(r.in[have:])
		if err != nil {
			t.Fatal(err)
		}
		have += k
		for have-at >= frameHeader {
			size := int(r.in[at])<<16 | int(r.in[at+1])<<8 | int(r.in[at+2])
			if have-at < frameHeader+size {
				break
			}
			if http2.FrameType(r.in[at+3]) == http2.FrameData && r.in[at+4]&1 != 0 {
				n--
			}
			at += frameHeader + size
		}
		have = copy(r.in, r.in[at:have])
		at = 0
	}
}

func TestARequestAllocatesNothing(t *testing.T) {
	_, c := serve(t, &testConfig, benchHandler)
	r := newRawClient(t, c)
	if got := testing.AllocsPerRun(500, func() { r.burst(t, 1) }); got > 1 && !raceEnabled {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	for name, n := range map[string]int{"serial": 1, "concurrent": 50} {
		b.Run(name, func(b *testing.B) {
			_, c := serve(b, &testConfig, benchHandler)
			r := newRawClient(b, c)
			b.ReportAllocs()
			for i := 0; i < b.N; i += n {
				r.burst(b, n)
			}
		})
	}
}

// BenchmarkCall is a call over loopback to a server of our own.
func BenchmarkCall(b *testing.B) {
	cc := ours(b, benchHandler)
	ex := exchangeFor("GET", "/index.html", nil, 0)
	buf := make([]byte, 1000)
	b.ReportAllocs()
	for b.Loop() {
		call(b, cc, ex, buf)
	}
}

func TestACallAllocatesNothing(t *testing.T) {
	cc := ours(t, benchHandler)
	ex := exchangeFor("GET", "/index.html", nil, 0)
	buf := make([]byte, 1000)
	if got := testing.AllocsPerRun(500, func() { call(t, cc, ex, buf) }); got > 12 && !raceEnabled {
		t.Errorf("%v allocations", got)
	}
}

func call(t testing.TB, cc *ClientConn, ex *message.Exchange, buf []byte) {
	c, ok := cc.Open()
	if !ok {
		t.Fatal("no call")
	}
	if err := c.RoundTrip(context.Background(), ex, 0); err != nil {
		t.Fatal(err)
	}
	if n, err := ex.Response.Body.Read(buf); n != len(benchBody) || err != nil && err != io.EOF {
		t.Fatal(n, err)
	}
	c.Finish()
	ex.Response.Header.Reset()
}

// ours is a ClientConn to a Conn.
func ours(t testing.TB, f func(context.Context, *message.Exchange)) *ClientConn {
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to, err := socket.Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		NewConn(&testConfig, s, s, &message.Client{}, &handler{serve: f}).Serve(context.Background())
	}()
	t.Cleanup(func() { <-done })
	cc := NewClientConn(to, to)
	run(t, cc)
	return cc
}

func BenchmarkDownload(b *testing.B) {
	const size = 1 << 20
	body := make([]byte, size)
	_, c := serve(b, &testConfig, func(_ context.Context, ex *message.Exchange) { answer(ex, 200, body) })
	cc, err := (&http2.Transport{}).NewClientConn(c)
	if err != nil {
		b.Fatal(err)
	}
	defer cc.Close()
	b.SetBytes(size)
	for b.Loop() {
		if got, err := roundTrip(cc, nil); err != nil || len(got) != size {
			b.Fatal(len(got), err)
		}
	}
}
