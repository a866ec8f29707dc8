package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestStickyVisitor: the cookie brings a visitor back over reloads and
// restarts, and lets go when the VM is drained or dead.
func TestStickyVisitor(t *testing.T) {
	t.Parallel()
	vms, p := named(t, "one", "two")
	body := fmt.Sprintf(`[defaults]
http = "forward"
[vms]
one = %q
two = %q
[sites]
"a.test" = { to = ["http://one:%[3]s", "http://two:%[3]s"], sticky = { cookie = "node", ttl = "1h" }, balance = "round_robin" }
"plain.test" = { to = ["http://one:%[3]s", "http://two:%[3]s"], sticky = true }
`, ip(vms[0].Addr), ip(vms[1].Addr), p)
	u := builds.Start(t, rig.Config{Body: body})
	cookieOf := func(c *peer.Client, host string) (*http.Cookie, string) {
		t.Helper()
		r := c.Get(host, "/")
		k, err := http.ParseSetCookie(r.Header.Get("Set-Cookie"))
		if err != nil {
			t.Fatalf("%s: %v in %+v", host, err, r.Header)
		}
		return k, string(r.Body)
	}
	k, home := cookieOf(u.TLS("a.test"), "a.test")
	if k.Name != "node" || !k.Secure || !k.HttpOnly || k.SameSite != http.SameSiteLaxMode || k.Path != "/" || k.MaxAge != 3600 {
		t.Errorf("over TLS: %+v", k)
	}
	if k, _ := cookieOf(u.Dial(), "plain.test"); k.Name != "usher_sticky" || k.Secure || k.MaxAge != 0 {
		t.Errorf("without TLS: %+v", k)
	}
	visit := func(want string) {
		t.Helper()
		if seen := shares(u.Dial(), "a.test", 20, func(int) string { return "Cookie: x=y; node=" + k.Value }); seen[want] != 20 {
			t.Errorf("the visitor of %s: %v", want, seen)
		}
	}
	visit(home)
	if seen := shares(u.Dial(), "a.test", 20, func(int) string { return "Cookie: node=" + strings.Repeat("A", len(k.Value)) }); len(seen) != 2 {
		t.Errorf("a made-up cookie chooses: %v", seen)
	}
	u.Reload(body + "\"more.test\" = \"http://one:" + p + "\"\n")
	visit(home)
	restart(u)
	visit(home)
	other := map[string]string{"one": "two", "two": "one"}[home]
	command(t, u, "drain", home)
	visit(other)
	if r := u.Dial().Get("a.test", "/", "Cookie: node="+k.Value); r.Header.Get("Set-Cookie") == "" {
		t.Error("a visitor who had to move is given no new cookie")
	}
	command(t, u, "undrain", home)
	visit(home)
	vms[map[string]int{"one": 0, "two": 1}[home]].Down()
	visit(other)
}

// TestDrainAnAddress: a VM without a name is drained by its address, over
// reloads and restarts; a tunnel that it has goes on.
func TestDrainAnAddress(t *testing.T) {
	t.Parallel()
	vms, _ := named(t, "one", "two")
	tunnel := peer.ListenAt(t, rig.FreePort(t, ip(vms[0].Addr)), peer.Mirror)
	body := fmt.Sprintf(`[defaults]
http = "forward"
[sites]
"a.test" = ["http://%s", "http://%s"]
"pass.test" = "passthrough://%s"
`, vms[0].Addr, vms[1].Addr, tunnel.Addr)
	u := builds.Start(t, rig.Config{Body: body})
	hello := string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	open := peer.Dial(t, u.HTTPS)
	open.Send(hello)
	open.WantExact(hello)
	only := func(when string, want map[string]bool) {
		t.Helper()
		for name := range shares(u.Dial(), "a.test", 40, nil) {
			if !want[name] {
				t.Errorf("%s: work goes to %s", when, name)
			}
		}
	}
	if out := command(t, u, "drain", ip(vms[0].Addr)); !strings.Contains(out, "1 under way") {
		t.Errorf("usher drain says %q", out)
	}
	only("drained", map[string]bool{"two": true})
	open.Send("more")
	open.WantExact("more")
	u.Reload(body + "\"b.test\" = \"http://" + vms[0].Addr + "\"\n")
	only("after a reload", map[string]bool{"two": true})
	if r := u.Dial().Get("b.test", "/", "Accept: application/json"); r.Status != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("a site with nothing but a drained VM: %d %+v", r.Status, r.Header)
	}
	become(t, u, vms[0].Addr, "drained")
	open.Close()
	restart(u)
	only("after a restart", map[string]bool{"two": true})
	refused := peer.Dial(t, u.HTTPS)
	refused.Send(hello)
	if rest, _ := refused.Rest(2 * time.Second); strings.Contains(string(rest), hello) || len(rest) == 0 {
		t.Errorf("a tunnel to a drained VM: %q", rest)
	}
	command(t, u, "undrain", ip(vms[0].Addr))
	rig.Eventually(t, "it works again", func() bool { return len(shares(u.Dial(), "a.test", 20, nil)) == 2 })
	if out := command(t, u, "vms"); strings.Contains(out, "drained") {
		t.Errorf("still drained:\n%s", out)
	}
	if _, errs, code := u.CLI("drain", "192.0.2.99"); code != 1 || !strings.Contains(errs, "192.0.2.99") {
		t.Errorf("an address that no site has: %d %s", code, errs)
	}
}

// TestErrorPages: a site's own pages for browsers, which may change on disk,
// and JSON with the id of the request for API clients.
func TestErrorPages(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	page, away := filepath.Join(dir, "502.html"), filepath.Join(dir, "away.html")
	peer.Replace(t, page, []byte("<p>our VM is away"))
	peer.Replace(t, away, []byte("<p>maintenance"))
	gone := rig.FreePort(t, rig.LoopbackIP())
	u := start(t, `[defaults]
http = "forward"
hold = "0s"
[vms]
off = %q
[sites]
"a.test" = { to = "http://%s", error_pages = { 502 = %q }, maintenance = %q }
"b.test" = { to = "http://off:%s", maintenance = %[4]q }`, ip(gone), gone, page, away, port(gone))
	c := u.Dial()
	if p := c.Get("a.test", "/", "Accept: text/html"); p.Status != 502 || string(p.Body) != "<p>our VM is away" {
		t.Errorf("%d %q", p.Status, p.Body)
	}
	p := c.Get("a.test", "/json", "Accept: application/json")
	var told struct {
		Status    int
		RequestID string `json:"request_id"`
	}
	if err := json.Unmarshal(p.Body, &told); err != nil || told.Status != 502 {
		t.Errorf("%d %q", p.Status, p.Body)
	}
	if l := u.Line(t, "the request", func(l rig.Line) bool { return l.Text("path") == "/json" }); l.Text("request_id") != told.RequestID || l.Text("reason") == "" {
		t.Errorf("answered %+v, logged %v", told, l)
	}
	command(t, u, "drain", "off")
	if p := c.Get("b.test", "/", "Accept: text/html"); p.Status != 503 || string(p.Body) != "<p>maintenance" || p.Header.Get("Retry-After") == "" {
		t.Errorf("a drained VM: %d %q", p.Status, p.Body)
	}
	peer.Replace(t, page, []byte("<p>the new page"))
	rig.EventuallyWithin(t, within+time.Second, "a page that changed is read again", func() bool {
		return string(c.Get("a.test", "/").Body) == "<p>the new page"
	})
}
