package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestTermUnderLoad: SIGTERM loses no request that was sent to it, on new and
// on kept connections.
func TestTermUnderLoad(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		<-time.After(20 * time.Millisecond) // the VM's work
		return l.Say(peer.OK)
	}))
	u := builds.Start(t, rig.Config{Body: "[timeouts]\ndrain = \"20s\"\n" + forward("aaaa.test", vm.Addr)})
	var done, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			for {
				n, err := session(u.HTTP, i%2 == 0)
				done.Add(int64(n))
				if err == errRefused {
					refused.Add(1)
					return
				}
				if err != nil {
					t.Errorf("a request was lost: %v", err)
					return
				}
			}
		})
	}
	rig.Eventually(t, "load", func() bool { return done.Load() > 500 })
	u.Signal(syscall.SIGTERM)
	wg.Wait()
	if code := u.Exit(peer.Patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
	t.Logf("%d requests answered", done.Load())
}

var errRefused = fmt.Errorf("connection refused")

// session makes a connection and sends requests over it until it is told
// Connection: close, or once. Only a connection that was refused, or that
// closed in order before a first byte was sent on it again, may fail.
func session(addr string, keep bool) (n int, err error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return 0, errRefused
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		c.SetDeadline(time.Now().Add(peer.Patience))
		request := peer.Get("aaaa.test", "/")
		if !keep {
			request = peer.Get("aaaa.test", "/", "Connection: close")
		}
		if _, err := c.Write([]byte(request)); err != nil {
			return n, err
		}
		p, err := strict.ReadResponse(r, "GET")
		if err != nil || p.Status != 200 {
			return n, fmt.Errorf("after %d on this connection: %+v, %w", n, p, err)
		}
		n++
		if !keep || strings.EqualFold(p.Header.Get("Connection"), "close") || n == 50 {
			return n, nil
		}
	}
}

// TestTermWaits: what is in flight at SIGTERM is finished, new connections are
// not taken.
func TestTermWaits(t *testing.T) {
	t.Parallel()
	release := make(chan bool)
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		l.Say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nbef")
		<-release
		return l.Say("ore")
	}))
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr)})
	c := u.Dial()
	c.Send(peer.Get("aaaa.test", "/"))
	vm.Wait(1)
	u.Signal(syscall.SIGTERM)
	rig.Eventually(t, "listener closed", func() bool {
		n, err := net.Dial("tcp", u.HTTP)
		if err == nil {
			n.Close()
		}
		return err != nil
	})
	close(release)
	if p := c.Response("GET"); string(p.Body) != "before" {
		t.Errorf("%q", p.Body)
	}
	if code := u.Exit(peer.Patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// TestTermDrain: tunnels get the drain time and no more.
func TestTermDrain(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[timeouts]
drain = "2s"
[sites]
"pass.test" = "passthrough://%s"`, vm.Addr)
	c, hello := peer.Dial(t, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	c.Send(hello)
	c.WantExact(hello)
	u.Signal(syscall.SIGTERM)
	begin := time.Now()
	c.Send("still")
	c.WantExact("still")
	code := u.Exit(peer.Patience)
	if d := time.Since(begin); code != 0 || d < time.Second || d > 8*time.Second {
		t.Errorf("ended with %d after %v", code, d)
	}
}

// TestSecondTerm ends at once.
func TestSecondTerm(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr)})
	c := u.Dial()
	c.Send(peer.Get("aaaa.test", "/"))
	vm.WaitOpen(1)
	u.Signal(syscall.SIGTERM)
	rig.Eventually(t, "draining", func() bool {
		n, err := net.Dial("tcp", u.HTTP)
		if err == nil {
			n.Close()
		}
		return err != nil
	})
	begin := rig.Now()
	u.Signal(syscall.SIGTERM)
	u.Exit(peer.Patience)
	if d := begin.Took(); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestNothingLeft: after all kinds of traffic the process holds the
// descriptors and goroutines it began with.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	vm, raw, sockets := peer.Listen(t, peer.Echo), peer.Listen(t, peer.Mirror), socketVM(t)
	u := start(t, `[timeouts]
hold = "200ms"
[defaults]
http = "forward"
[sites]
"aaaa.test" = "http://%s"
"gone.test" = "http://127.0.0.1:9"
"sock.test" = "%s"
"pass.test" = "passthrough://%s"`, vm.Addr, sockets.URL, raw.Addr)
	u.TLS("aaaa.test").Close()
	before := descriptors(t, u)
	t.Run("traffic", func(t *testing.T) { allKinds(t, u.For(t)) })
	vm.Down()
	raw.Down()
	// the runtime's poller takes its own when it is first needed
	rig.Eventually(t, fmt.Sprintf("at most %d descriptors", before+2), func() bool { return descriptors(t, u) <= before+2 })
}

// allKinds is traffic of every kind, good and bad; all of it has ended when
// the subtest has.
func allKinds(t *testing.T, u *rig.Usher) {
	hello := string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	for range 10 {
		u.Dial().Get("aaaa.test", "/")
		u.TLS("aaaa.test").Get("aaaa.test", "/")
		u.Dial().Get("gone.test", "/")
		u.Dial().Send("GET / HTTP/1.1\r\nHost: aa")
		u.Dial().Send("BAD\r\n\r\n")
		u.Alert(&tls.Config{ServerName: "none.test"})
		dialSocket(t, u, "ws", "sock.test").CloseNow()
		c := peer.Dial(t, u.HTTPS)
		c.Send(hello)
		c.WantExact(hello)
		c.Close()
		peer.Dial(t, u.HTTPS).Send(hello[:20])
	}
}

func descriptors(t testing.TB, u *rig.Usher) int {
	t.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", u.PID()))
	if err != nil {
		t.Fatal(err)
	}
	return len(fds)
}
