package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestReloadsUnderLoad: 100 reloads while 100,000 requests pass, on new and on
// kept connections, with tunnels and WebSockets open across all of them. None
// fails.
func TestReloadsUnderLoad(t *testing.T) {
	requests, reloads := 100_000, 100
	if testing.Short() {
		requests, reloads = 5_000, 5
	}
	one, two, mirror, sockets := peer.Listen(t, peer.Answer(peer.OK)), peer.Listen(t, peer.Answer(peer.OK)), peer.Listen(t, peer.Mirror), socketVM(t)
	body := func(n int) string {
		vm := []*peer.VM{one, two}[n%2] // the loaded site changes its VM every time
		return fmt.Sprintf(`[defaults]
http = "forward"
[sites]
"pass.test" = "passthrough://%s"
"sock.test" = %q
"aaaa.test" = "http://%s"
"bbbb.test" = ["http://%s", "http://%s"]
"n%d.test" = "http://%s"`, mirror.Addr, sockets.URL, vm.Addr, one.Addr, two.Addr, n, vm.Addr)
	}
	u := builds.Start(t, rig.Config{Body: body(0), Log: `access = "off"`})
	c, hello := peer.Dial(t, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	c.Send(hello)
	c.WantExact(hello)
	socket := dialSocket(t, u, "wss", "sock.test")

	var sent, failed atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		load := &loader{t: t, addr: u.HTTP, sent: &sent, failed: &failed, limit: int64(requests), once: i%4 == 0, tls: nil}
		if i%2 == 1 {
			load.addr, load.tls = u.HTTPS, &tls.Config{ServerName: "aaaa.test", RootCAs: u.Roots()}
		}
		wg.Go(load.run)
	}
	for n := range reloads {
		u.Reload(body(n + 1))
		c.Send("ping")
		c.WantExact("ping")
		echo(t, socket, "ping")
		want := sent.Load() + int64(requests/reloads)*9/10 // reloads are spread over the requests
		rig.EventuallyWithin(t, 2*time.Minute, "the load goes on", func() bool { return sent.Load() >= min(want, int64(requests)) })
	}
	wg.Wait()
	t.Logf("%d requests across %d reloads, %d failed", sent.Load(), reloads, failed.Load())
	if failed.Load() > 0 {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
}

// loader is one client that sends request after request.
type loader struct {
	t            *testing.T
	addr         string
	tls          *tls.Config
	once         bool // a new connection for each request
	limit        int64
	sent, failed *atomic.Int64
}

func (l *loader) run() {
	for l.sent.Load() < l.limit {
		if err := l.connection(); err != nil {
			l.failed.Add(1)
			l.t.Errorf("request failed: %v", err)
			if l.failed.Load() > 10 {
				return
			}
		}
	}
}

// connection sends up to 500 requests over one connection, which the server
// may end only by saying so.
func (l *loader) connection() error {
	c, err := net.DialTimeout("tcp", l.addr, peer.Patience)
	if err != nil {
		return err
	}
	if l.tls != nil {
		c = tls.Client(c, l.tls)
	}
	defer c.Close()
	r, hosts := bufio.NewReader(c), [2]string{"aaaa.test", "bbbb.test"}
	for n := range 500 {
		host := hosts[n%2]
		if l.tls != nil {
			host = hosts[0]
		}
		c.SetDeadline(time.Now().Add(peer.Patience))
		if _, err := c.Write([]byte(peer.Get(host, "/"))); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		p, err := strict.ReadResponse(r, "GET")
		if err != nil || p.Status != 200 || string(p.Body) != "ok" {
			return fmt.Errorf("request %d: %+v, %w", n, p, err)
		}
		l.sent.Add(1)
		if l.once || p.Header.Get("Connection") == "close" {
			return nil
		}
	}
	return nil
}
