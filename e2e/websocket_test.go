package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// socketVM is a VM that echoes WebSocket messages.
func socketVM(t testing.TB) *httptest.Server {
	t.Helper()
	vm := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}, InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(8 << 20)
		for {
			kind, b, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, b) != nil {
				return
			}
		}
	}))
	t.Cleanup(vm.Close)
	return vm
}

// dialSocket opens a WebSocket to a site of usher.
func dialSocket(t testing.TB, u *rig.Usher, scheme, host string) *websocket.Conn {
	t.Helper()
	addr := u.HTTP
	if scheme == "wss" {
		addr = u.HTTPS
		u.TLS(host).Close() // until it has its certificate
	}
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, TLSClientConfig: &tls.Config{RootCAs: u.Roots()}, DisableKeepAlives: true}}
	ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
	defer cancel()
	c, _, err := websocket.Dial(ctx, scheme+"://"+host+"/socket", &websocket.DialOptions{HTTPClient: client, Subprotocols: []string{"echo"}})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(8 << 20)
	t.Cleanup(func() { c.CloseNow() })
	return c
}

// echo sends a message and wants it back.
func echo(t testing.TB, c *websocket.Conn, message string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), peer.Patience)
	defer cancel()
	if err := c.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		t.Fatal(err)
	}
	if _, b, err := c.Read(ctx); err != nil || string(b) != message {
		t.Fatalf("%.40q came back as %.40q, %v", message, b, err)
	}
}

// TestWebSocket: a known library at both ends, on both ports.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	vm := socketVM(t)
	u := start(t, `[sites."aaaa.test"]
to = "%s"
http = "forward"`, vm.URL)
	for _, scheme := range []string{"ws", "wss"} {
		c := dialSocket(t, u, scheme, "aaaa.test")
		if c.Subprotocol() != "echo" {
			t.Errorf("%s: subprotocol %q", scheme, c.Subprotocol())
		}
		for _, m := range []string{"hello", "", strings.Repeat("large ", 500_000)} {
			echo(t, c, m)
		}
		if err := c.Close(websocket.StatusNormalClosure, "done"); err != nil {
			t.Errorf("%s: closing: %v", scheme, err)
		}
	}
	u.Line(t, "the socket", func(l rig.Line) bool { return l.Text("path") == "/socket" && l.Number("status") == 101 })
}

const upgrade = "GET / HTTP/1.1\r\nHost: aaaa.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// TestUpgradeDeclined: bytes behind a request to upgrade are raw only after a
// 101; when the VM says 200 they are a request, or nothing.
func TestUpgradeDeclined(t *testing.T) {
	t.Parallel()
	raw := make(chan string, 10)
	vm := peer.Listen(t, func(l *peer.Link) {
		if _, err := l.RequestHead(); err == nil {
			l.Say(peer.OK)
			b, _ := io.ReadAll(l.R)
			raw <- string(b)
		}
	})
	u := forwarding(t, vm)
	c := u.Dial()
	c.Send(upgrade + "DELETE /smuggled HTTP/1.1\r\nHost: bbbb.test\r\n\r\n")
	if p := c.Response("GET"); p.Status != 200 {
		t.Errorf("%d", p.Status)
	}
	c.Close()
	select {
	case s := <-raw:
		if s != "" {
			t.Errorf("the VM read on: %q", s)
		}
	case <-time.After(peer.Patience):
		t.Error("usher kept a connection that had been asked to change its protocol")
	}
}

// TestUpgradeWithoutAsking: a VM that switches when nobody asked, or to
// something else, is not believed.
func TestUpgradeWithoutAsking(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\nraw bytes")
	}))
	u := forwarding(t, vm)
	for name, request := range map[string]string{"not asked": peer.Get("aaaa.test", "/"), "something else": upgrade} {
		c := u.Dial()
		c.Send(request)
		if p := c.Response("GET"); p.Status != 502 {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
}

// TestUpgradeForged: a WebSocket request that is none is no way through.
func TestUpgradeForged(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := forwarding(t, vm)
	for _, bad := range []string{
		strings.Replace(upgrade, "Version: 13", "Version: 1337", 1),
		strings.Replace(upgrade, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1),
		strings.Replace(upgrade, "dGhlIHNhbXBsZSBub25jZQ==", "short", 1),
	} {
		c := u.Dial()
		c.Send(bad)
		c.Response("GET")
	}
	for _, q := range vm.Requests() {
		if q.Header.Has("Upgrade") {
			t.Errorf("a forged upgrade was passed on: %v", q.Header)
		}
	}
}
