package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"usher/proxy/h1"
	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
)

// noCertificates is for tests of plain HTTP.
type noCertificates struct{}

func (noCertificates) ServerConfig() *tls.Config                { return nil }
func (noCertificates) ChallengeConfig() *tls.Config             { return nil }
func (noCertificates) HTTPChallenge(_, _ string) (string, bool) { return "", false }
func (noCertificates) Has(string) bool                          { return false }
func (noCertificates) Covers(string, netip.Addr, string) bool   { return false }

// edge is a proxy with one plain listener and one site, "a.test".
type edge struct {
	proxy *Proxy
	addr  string
}

// newEdge starts an edge whose site forwards to the VM at address.
func newEdge(t testing.TB, vm string) *edge {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	loop, err := socket.NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	log, err := telemetry.Open(filepath.Join(t.TempDir(), "access.log"), telemetry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	metrics := telemetry.NewMetrics("test", log)
	e := &edge{proxy: New(Options{
		Certificates: noCertificates{}, Tunnels: tunnel.New(loop), Access: log, Metrics: metrics, Log: zerolog.Nop(),
	})}
	group.Go(func() { loop.Run(ctx) })
	group.Go(func() { log.Run(ctx) })
	e.proxy.Publish(snapshotTo(t, vm, metrics))
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.UseLoop(loop)
	e.addr = l.Addr().String()
	group.Go(func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() { e.proxy.ServePlain(ctx, s) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.proxy.Drain()
		e.proxy.Snapshot().Pools.Each((*upstream.Pool).Retire)
		cancel()
		group.Wait()
	})
	return e
}

func snapshotTo(t testing.TB, vm string, metrics *telemetry.Metrics) *Snapshot {
	t.Helper()
	a := netip.MustParseAddrPort(vm)
	plan := upstream.NewSet(upstream.Dialer{}).Plan()
	pool, err := plan.Pool(upstream.Spec{
		Addresses: []upstream.Address{{Host: a.Addr().String(), Port: a.Port()}},
		Connect:   time.Second, ResponseHead: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	pools, _ := plan.Done()
	site := &Site{Host: "a.test", Rest: &Route{Pool: pool}, PlainHTTP: ForwardPlain, Counters: metrics.SiteFor("a.test")}
	return &Snapshot{
		Sites: router.NewTable(map[string]*Site{"a.test": site}), Pools: pools, PublicHTTPSPort: 443,
		H1: &h1.Config{RequestHead: time.Minute, KeepAlive: time.Minute, DrainGrace: time.Millisecond,
			Timeouts: message.Timeouts{RequestBody: time.Minute, ResponseWrite: time.Minute}},
	}
}

// cannedVM answers every read with the same response and allocates nothing.
func cannedVM(t testing.TB, response string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	t.Cleanup(func() { l.Close(); group.Wait() })
	group.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			group.Go(func() {
				defer c.Close()
				buf, answer := make([]byte, 4096), []byte(response)
				for {
					if _, err := c.Read(buf); err != nil {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	return l.Addr().String()
}

const okResponse = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: Mon, 23 Nov 2026 00:00:00 GMT\r\nContent-Length: 12\r\n\r\nhello world\n"

// visitor is a keep-alive client that allocates nothing.
type visitor struct {
	t    testing.TB
	c    net.Conn
	head []byte
	buf  [4096]byte
}

func newVisitor(t testing.TB, e *edge) *visitor {
	t.Helper()
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &visitor{t: t, c: c, head: []byte("GET /hello?x=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n")}
}

func (v *visitor) get() {
	if _, err := v.c.Write(v.head); err != nil {
		v.t.Fatal(err)
	}
	n, err := io.ReadAtLeast(v.c, v.buf[:], len(okResponse))
	if err != nil || string(v.buf[:15]) != "HTTP/1.1 200 OK" {
		v.t.Fatalf("%q, %v", v.buf[:n], err)
	}
}

func BenchmarkProxiedGET(b *testing.B) {
	v := newVisitor(b, newEdge(b, cannedVM(b, okResponse)))
	b.ReportAllocs()
	for b.Loop() {
		v.get()
	}
}
