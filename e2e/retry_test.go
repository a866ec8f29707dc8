package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

func holding(t *testing.T, hold string, addrs ...string) *rig.Usher {
	t.Helper()
	return start(t, `[timeouts]
hold = %q
connect = "1s"
response_head = "2s"
[sites."aaaa.test"]
to = ["http://%s"]
http = "forward"`, hold, strings.Join(addrs, `", "http://`))
}

// TestHoldWhileRestarting: requests wait for a VM that comes back.
func TestHoldWhileRestarting(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := holding(t, "10s", vm.Addr)
	warm := u.Dial() // leaves an idle connection behind that dies with the VM
	warm.Get("aaaa.test", "/")
	vm.Down()
	requests := map[string]string{
		"GET":                 peer.Get("aaaa.test", "/"),
		"POST, whole body":    "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\nhello",
		"PUT, chunked":        "PUT / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST of 1 MiB":       "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("hello123", 128<<10),
		"on a warm keepalive": "",
	}
	clients := map[string]*peer.Client{}
	for name, r := range requests {
		clients[name] = u.Dial()
		if r == "" {
			clients[name], r = warm, peer.Get("aaaa.test", "/")
		}
		go clients[name].Try(r)
	}
	<-time.After(1500 * time.Millisecond) // the length of the outage
	vm.Up()
	for name, c := range clients {
		p := c.Response("GET")
		if p.Status != 200 || strings.Contains(name, "T") && name != "GET" && !strings.Contains(string(p.Body), "hello") {
			t.Errorf("%s: %d %.200q", name, p.Status, p.Body)
		}
	}
}

// TestGoneVM: 502 within hold + connect, as a page or as JSON, with the
// request's id.
func TestGoneVM(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	vm.Down()
	u := holding(t, "1s", vm.Addr)
	for accept, kind := range map[string]string{"": "text/html", "text/html,*/*;q=0.8": "text/html", "application/json": "application/json"} {
		begin := time.Now()
		var fields []string
		if accept != "" {
			fields = []string{"Accept: " + accept}
		}
		path := fmt.Sprintf("/gone/%x", accept)
		c := u.Dial()
		p := c.Get("aaaa.test", path, fields...)
		if d := time.Since(begin); d < 800*time.Millisecond || d > 6*time.Second {
			t.Errorf("answered after %v", d)
		}
		if p.Status != 502 || !strings.HasPrefix(p.Header.Get("Content-Type"), kind) {
			t.Errorf("Accept %q: %d %+v", accept, p.Status, p.Header)
		}
		if kind == "application/json" && !json.Valid(p.Body) {
			t.Errorf("not JSON: %q", p.Body)
		}
		l := u.Line(t, "the request", func(l rig.Line) bool { return l.Text("path") == path })
		if id := l.Text("request_id"); id == "" || !strings.Contains(string(p.Body), id) {
			t.Errorf("no request id %q in %q", id, p.Body)
		}
		if l.Number("status") != 502 || l.Text("failed") != "vm" || l.Text("reason") == "" {
			t.Errorf("log line: %v", l)
		}
		if c.Get("aaaa.test", "/").Status != 502 { // the connection is still good
			t.Error("second request on the connection failed")
		}
	}
	if p := u.Dial(); true {
		p.Send(peer.Request("HEAD", "aaaa.test", "/"))
		if s := p.Response("HEAD").Status; s != 502 {
			t.Errorf("HEAD: %d", s)
		}
	}
}

// TestSilentVM: one that takes the request and says nothing is a 504.
func TestSilentVM(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := holding(t, "1s", vm.Addr)
	for _, r := range []string{peer.Get("aaaa.test", "/"), "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\nhello"} {
		begin, c := time.Now(), u.Dial()
		c.Send(r)
		if p := c.Response("GET"); p.Status != 504 {
			t.Errorf("%.4s: %d", r, p.Status)
		}
		if d := time.Since(begin); d < 1800*time.Millisecond || d > 8*time.Second {
			t.Errorf("%.4s answered after %v", r, d)
		}
	}
}

// TestUnreachableVM: a connection that never comes about is a 504.
func TestUnreachableVM(t *testing.T) {
	t.Parallel()
	u := holding(t, "1s", deaf(t))
	begin := time.Now()
	if p := u.Dial().Get("aaaa.test", "/"); p.Status != 504 {
		t.Errorf("%d", p.Status)
	}
	if d := time.Since(begin); d > 6*time.Second {
		t.Errorf("answered after %v", d)
	}
}

// deaf is an address where connecting neither works nor fails: its queue is
// full and nobody accepts.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, _ := unix.Getsockname(fd)
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return addr // full
		}
		t.Cleanup(func() { c.Close() })
	}
}

// TestAnotherVM: with one of two VMs down nobody notices.
func TestAnotherVM(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	u := holding(t, "1s", one.Addr, two.Addr)
	seen := map[string]int{}
	for range 20 {
		seen[string(u.Dial().Get("aaaa.test", "/").Body)]++
	}
	if seen["one"] == 0 || seen["two"] == 0 {
		t.Errorf("not balanced: %v", seen)
	}
	one.Down()
	begin := time.Now()
	for i := range 20 {
		c := u.Dial()
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\nhello")
		if p := c.Response("POST"); p.Status != 200 || string(p.Body) != "two" {
			t.Errorf("request %d: %d %q", i, p.Status, p.Body)
		}
	}
	if d := time.Since(begin); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

// TestStaleConnection: a VM that closes idle connections costs no request.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, func(l *peer.Link) {
		if _, err := l.Request(); err == nil {
			l.Say(peer.OK) // and closes, without having said so
		}
	})
	u := holding(t, "5s", vm.Addr)
	c := u.Dial()
	for i := range 100 {
		if p := c.Get("aaaa.test", "/"); p.Status != 200 {
			t.Fatalf("request %d: %d %q", i, p.Status, p.Body)
		}
		if i%4 == 0 {
			vm.WaitOpen(0) // so that it is known to be closed before a request that may not be repeated
			c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\nhello")
			if p := c.Response("POST"); p.Status != 200 {
				t.Fatalf("POST %d: %d %q", i, p.Status, p.Body)
			}
		}
	}
}

// TestReplay: a request that died on a VM is sent again only when that is
// safe.
func TestReplay(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.N%2 == 0 && l.Say(peer.Text(q.Method+" "+string(q.Body))) // every other connection dies after the request
	}))
	u := holding(t, "5s", vm.Addr)
	body := strings.Repeat("b", 60<<10)
	for _, c := range []struct {
		method, body string
		want         int
		times        int
	}{
		{"GET", "", 200, 2}, {"PUT", body, 200, 2}, {"DELETE", "", 200, 2},
		{"POST", "hello", 502, 1}, {"PATCH", "hello", 502, 1},
		{"PUT", strings.Repeat("b", 200<<10), 502, 1},
	} {
		before, client := len(vm.Requests()), u.Dial()
		for vm.Accepted()%2 == 1 { // so that the next connection is one that dies
			n := vm.Accepted()
			dead := peer.Dial(t, vm.Addr)
			rig.Eventually(t, "accepted", func() bool { return vm.Accepted() > n })
			dead.Close()
		}
		drop(vm)
		client.Send(fmt.Sprintf("%s / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: %d\r\n\r\n%s", c.method, len(c.body), c.body))
		p := client.Response(c.method)
		if n := len(vm.Requests()) - before; p.Status != c.want || n != c.times {
			t.Errorf("%s with %d bytes: %d, the VM saw it %d times; want %d, %d times", c.method, len(c.body), p.Status, n, c.want, c.times)
		}
	}
}

// drop ends every connection that usher keeps idle, so that it dials anew.
func drop(vm *peer.VM) {
	vm.Down()
	vm.Up()
}
