package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

func forwarding(t *testing.T, vm *peer.VM) *rig.Usher {
	return start(t, `[sites."aaaa.test"]
to = "http://%s"
http = "forward"`, vm.Addr)
}

// TestConnectRefused: 405 on both ports, whatever is asked for.
func TestConnectRefused(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := forwarding(t, vm)
	for _, target := range []string{"aaaa.test:443", "aaaa.test", vm.Addr, "127.0.0.1:22"} {
		for port, c := range map[string]*peer.Client{"plain": u.Dial(), "TLS": u.TLS("aaaa.test")} {
			c.Send("CONNECT " + target + " HTTP/1.1\r\nHost: " + target + "\r\n\r\n")
			if p := c.Response("GET"); p.Status != 405 {
				t.Errorf("%s, %s: %d", port, target, p.Status)
			}
		}
	}
	if len(vm.Requests()) > 0 {
		t.Error("the VM heard of it")
	}
}

// TestLimits: what is over a limit is refused, what is just below it is not.
func TestLimits(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := forwarding(t, vm)
	fields := func(n int) (f []string) {
		for i := range n {
			f = append(f, fmt.Sprintf("X-%d: y", i))
		}
		return f
	}
	long := strings.Repeat("a", 16<<10)
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"190 fields":            {peer.Get("aaaa.test", "/", fields(190)...), 200},
		"201 fields":            {peer.Get("aaaa.test", "/", fields(201)...), 431},
		"5,000 fields":          {peer.Get("aaaa.test", "/", fields(5000)...), 431},
		"60 KiB of fields":      {peer.Get("aaaa.test", "/", "X: "+strings.Repeat("y", 60<<10)), 200},
		"65 KiB of fields":      {peer.Get("aaaa.test", "/", "X: "+strings.Repeat("y", 65<<10)), 431},
		"1 MiB of fields":       {peer.Get("aaaa.test", "/", "X: "+strings.Repeat("y", 1<<20)), 431},
		"target of 16,000":      {peer.Get("aaaa.test", "/"+long[:15999]), 200},
		"target over 16 KiB":    {peer.Get("aaaa.test", "/"+long), 414},
		"query over 16 KiB":     {peer.Get("aaaa.test", "/?"+long), 414},
		"endless target":        {"GET /" + strings.Repeat("a", 1<<20), 414},
		"endless field":         {"GET / HTTP/1.1\r\nHost: aaaa.test\r\nX: " + strings.Repeat("a", 1<<20), 431},
		"fields in the trailer": {"POST / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + strings.Repeat("X: y\r\n", 300) + "\r\n", 0},
	} {
		client := u.Dial()
		client.Try(c.request)
		rest, err := readSome(client)
		if c.want == 0 { // any refusal will do
			if strings.HasPrefix(rest, "HTTP/1.1 2") || rest == "" && isTimeout(err) {
				t.Errorf("%s: %v %.60q", name, err, rest)
			}
			continue
		}
		if !strings.HasPrefix(rest, fmt.Sprintf("HTTP/1.1 %d ", c.want)) {
			t.Errorf("%s: %.60q, %v; want %d", name, rest, err, c.want)
		}
	}
}

// readSome reads the first bytes that come.
func readSome(c *peer.Client) (string, error) {
	c.SetReadDeadline(time.Now().Add(peer.Patience))
	b := make([]byte, 4096)
	n, err := c.R.Read(b)
	return string(b[:n]), err
}

// TestLingeringClose: a client that is refused in the middle of sending reads
// the answer to its end and sees no reset.
func TestLingeringClose(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "http://%[1]s"
"bbbb.test" = "http://%[1]s"`, vm.Addr)
	rest := strings.Repeat("x", 50<<10)
	for name, c := range map[string]struct {
		client *peer.Client
		head   string
		want   int
	}{
		"400 on plain HTTP": {u.Dial(), "POST / HTTP/1.1\r\nHost : aaaa.test\r\nContent-Length: 50000\r\n\r\n", 400},
		"400 on TLS":        {u.TLS("aaaa.test"), "POST / HTTP/1.1\r\nHost : aaaa.test\r\nContent-Length: 50000\r\n\r\n", 400},
		"421":               {u.TLS("aaaa.test"), "POST / HTTP/1.1\r\nHost: bbbb.test\r\nContent-Length: 51200\r\n\r\n", 421},
		"HTTP on TLS port":  {peer.Dial(t, u.HTTPS), "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 51200\r\n\r\n", 400},
	} {
		c.client.Send(c.head)
		for i := 0; i < len(rest); i += 5 << 10 {
			if err := c.client.Try(rest[i : i+5<<10]); err != nil {
				t.Errorf("%s: sending failed: %v", name, err)
				break
			}
		}
		if p := c.client.Response("POST"); p.Status != c.want {
			t.Errorf("%s: %d, want %d", name, p.Status, c.want)
		}
		if more, err := c.client.Rest(5 * time.Second); err != nil || len(more) > 0 {
			t.Errorf("%s: the connection ended with %v, %q", name, err, more)
		}
	}
}

// TestRefusedIsClosed: a peer that was refused and does not leave is closed
// after a second, bytes or not.
func TestRefusedIsClosed(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := forwarding(t, vm)
	c := u.Dial()
	c.Send("BAD\r\n\r\n")
	c.Response("GET")
	rig.EventuallyWithin(t, 3*time.Second, "sending to a closed connection fails", func() bool { return c.Try("x") != nil })
}
