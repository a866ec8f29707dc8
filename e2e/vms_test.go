package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
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

// TestWakeOfACrowd: fifty visitors come at once to a VM that sleeps. It is
// started once, by the first of them; everybody is served. When nobody comes
// any more it is stopped, and checks do not wake it.
func TestWakeOfACrowd(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("awake"))
	ca, dir := peer.NewCA(t), t.TempDir()
	through := peer.ListenTLS(t, ca.Server("pass.test"), peer.Name("through"))
	down := func() { vm.Down(); through.Down() }
	down()
	startHook := script(t, "start", "echo starting $USHER_VM; echo start >>"+dir+"/log\n")
	stopHook := script(t, "stop", "echo stop >>"+dir+"/log\n")
	u := start(t, `[timeouts]
hold = "1s"
[vms]
web1 = { address = %q, start = %q, start_timeout = "30s", stop = %q, idle_stop = "2s", health = { interval = "100ms", fall = 1, rise = 1 } }
[sites]
"app.test" = { to = "http://web1:%s", http = "forward" }
"pass.test" = "passthrough://web1:%s"`, ip(vm.Addr), startHook, stopHook, port(vm.Addr), port(through.Addr))
	hooks := func() string {
		b, _ := os.ReadFile(dir + "/log")
		return string(b)
	}
	become(t, u, vm.Addr, "unhealthy")
	rig.Eventually(t, "it was checked often", func() bool { return vmStates(t, u)[vm.Addr].Checks[0].Failed > 5 })
	if h := hooks(); strings.Contains(h, "start") {
		t.Fatalf("nobody has come, and the hooks say %q", h)
	}
	var group sync.WaitGroup
	answers := make(chan string, 60)
	for i := range 50 {
		c := u.Dial()
		group.Go(func() {
			if i%5 == 0 {
				p := c.Get("app.test", "/", "Accept: text/html")
				if p.Status != 503 || p.Header.Get("Retry-After") == "" || p.Header.Get("Refresh") == "" || !strings.Contains(string(p.Body), "refresh") {
					t.Errorf("a browser: %d %+v", p.Status, p.Header)
				}
				answers <- "page"
				return
			}
			p := c.Get("app.test", "/", "Accept: application/json")
			answers <- string(p.Body)
		})
	}
	var pass *peer.Client
	tunnel := peer.Dial(t, u.HTTPS)
	group.Go(func() {
		var err error
		if pass, err = tunnel.Handshake(&tls.Config{ServerName: "pass.test", RootCAs: ca.Pool}); err != nil {
			t.Errorf("a tunnel: %v", err)
		}
	})
	for range 10 { // browsers are told after hold
		if a := <-answers; a != "page" {
			t.Errorf("the first to be answered are browsers, not %q", a)
		}
	}
	vm.Up()
	through.Up()
	group.Wait()
	for range 40 {
		if a := <-answers; a != "awake" {
			t.Errorf("an API client: %q", a)
		}
	}
	if pass == nil {
		t.Fatal("no tunnel")
	}
	if p := pass.Get("pass.test", "/"); string(p.Body) != "through" {
		t.Errorf("through the tunnel: %d %q", p.Status, p.Body)
	}
	if h := hooks(); h != "start\n" {
		t.Errorf("fifty visitors; the hooks say %q", h)
	}
	u.Log.Contains(t, "starting web1")
	browser := u.Dial().Get("app.test", "/", "Accept: text/html")
	if browser.Status != 200 {
		t.Errorf("the browser that has waited: %d", browser.Status)
	}
	<-time.After(2500 * time.Millisecond) // longer than idle_stop: the open tunnel keeps it awake
	if h := hooks(); h != "start\n" {
		t.Errorf("stopped in spite of a tunnel: %q", h)
	}
	pass.Close()
	rig.Eventually(t, "it is stopped when nobody has come for a while", func() bool { return hooks() == "start\nstop\n" })
	down()
	if s := vmStates(t, u)[vm.Addr].Machine; s.State != "asleep" {
		t.Errorf("%+v", s)
	}
	again := u.Dial()
	again.Send(peer.Get("app.test", "/", "Accept: application/json"))
	rig.Eventually(t, "it is started again", func() bool { return hooks() == "start\nstop\nstart\n" })
	vm.Up()
	if p := again.Response("GET"); p.Status != 200 {
		t.Errorf("the next visitor: %d", p.Status)
	}
}

// TestWakeInVain: a VM that does not come up in start_timeout is a 503 that
// says when to come again, and so is one whose hook fails.
func TestWakeInVain(t *testing.T) {
	t.Parallel()
	gone := rig.FreePort(t, rig.LoopbackIP())
	u := start(t, `[defaults]
http = "forward"
hold = "500ms"
[vms]
slow = { address = %[1]q, start = "true", start_timeout = "1s" }
bad = { address = "%[1]s", start = "sh -c 'echo no such domain; exit 3'", start_timeout = "1s" }
[sites]
"slow.test" = "http://slow:%[2]s"
"bad.test" = "http://bad:%[2]s"`, ip(gone), port(gone))
	for host, longest := range map[string]time.Duration{"slow.test": 10 * time.Second, "bad.test": 10 * time.Second} {
		var p *strict.Response
		d := took(func() { p = u.Dial().Get(host, "/", "Accept: application/json") })
		if p.Status != 503 || p.Header.Get("Retry-After") == "" || d > longest {
			t.Errorf("%s: %d, Retry-After %q after %v", host, p.Status, p.Header.Get("Retry-After"), d)
		}
	}
	u.Log.Contains(t, "no such domain")
	if l := u.Line(t, "the VM whose hook fails", func(l rig.Line) bool { return l.Text("site") == "bad.test" }); !strings.Contains(l.Text("reason"), "start hook failed") {
		t.Errorf("logged as %v", l)
	}
	if m := vmStates(t, u)[gone].Machine; m.Why == "" || m.Hook == "" {
		t.Errorf("usher vms says %+v", m)
	}
}

// TestRestartHook: a VM whose checks fail for long enough is restarted, once in
// a while.
func TestRestartHook(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	hook := script(t, "restart", "echo again; echo restart >>"+log+"\n")
	gone := rig.FreePort(t, rig.LoopbackIP())
	u := start(t, `[vms]
web1 = { address = %q, restart = %q, restart_after = "1s", health = { interval = "100ms", fall = 1 } }
[sites]
"a.test" = "http://web1:%s"`, ip(gone), hook, port(gone))
	rig.Eventually(t, "it is restarted", func() bool {
		b, _ := os.ReadFile(log)
		return string(b) == "restart\n"
	})
	u.Log.Contains(t, "restart hook")
	if m := vmStates(t, u)[gone].Machine; !strings.Contains(m.Hook, "restart") {
		t.Errorf("%+v", m)
	}
}

// TestHealthChecks: every kind of check finds what works and what does not.
func TestHealthChecks(t *testing.T) {
	t.Parallel()
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	answer := func(l *peer.Link, q *strict.Request) bool {
		switch q.Method + " " + q.Target {
		case "GET /good", "HEAD /head":
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + map[string]string{"GET": "fine"}[q.Method])
		case "GET /teapot":
			return l.Say("HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
		}
		return l.Say("HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n")
	}
	plain, secure := peer.Listen(t, peer.Each(answer)), peer.ListenTLS(t, ca.Server("secure.test"), peer.Each(answer))
	silent, deaf := peer.Listen(t, peer.Silent), peer.Listen(t, peer.Answer("what?"))
	serving, failing := healthVM(t, true), healthVM(t, false)
	gone := rig.FreePort(t, rig.LoopbackIP())
	type want struct{ to, health, state, reason string }
	cases := map[string]want{
		"get":      {"http://" + plain.Addr, `path = "/good"`, "healthy", ""},
		"body":     {"http://" + plain.Addr, `path = "/good", body = "fine"`, "healthy", ""},
		"nobody":   {"http://" + plain.Addr, `path = "/good", body = "splendid"`, "unhealthy", "splendid"},
		"status":   {"http://" + plain.Addr, `path = "/teapot", status = "200,418"`, "healthy", ""},
		"bad":      {"http://" + plain.Addr, `path = "/teapot"`, "unhealthy", "418"},
		"head":     {"http://" + plain.Addr, `path = "/head", method = "HEAD"`, "healthy", ""},
		"https":    {"https://" + secure.Addr, `path = "/good"`, "healthy", ""},
		"tls":      {"https://" + secure.Addr, `type = "tls"`, "healthy", ""},
		"pass":     {"passthrough://" + secure.Addr, ``, "healthy", ""},
		"notls":    {"passthrough://" + deaf.Addr, `timeout = "500ms"`, "unhealthy", "tls"},
		"tcp":      {"http://" + silent.Addr, `type = "tcp"`, "healthy", ""},
		"silent":   {"http://" + silent.Addr, `path = "/", timeout = "200ms"`, "unhealthy", "200ms"},
		"port":     {"http://" + gone, `path = "/good", port = ` + port(plain.Addr), "unhealthy", "refused"},
		"grpc":     {"h2c://" + serving, `type = "grpc"`, "healthy", ""},
		"service":  {"h2c://" + serving, `type = "grpc", service = "nosuch"`, "unhealthy", "nosuch"},
		"grpcdown": {"h2c://" + failing, `type = "grpc"`, "unhealthy", "NOT_SERVING"},
		"gone":     {"http://" + gone, `type = "tcp"`, "unhealthy", "refused"},
	}
	var body strings.Builder
	body.WriteString("[sites]\n")
	for name, c := range cases {
		sep := ", "
		if c.health == "" {
			sep = ""
		}
		fmt.Fprintf(&body, "[sites.%q]\nto = %q\nhealth = { interval = \"200ms\", fall = 1%s%s }\n", map[bool]string{true: "secure.test", false: name + ".test"}[name == "https"], c.to, sep, c.health)
		if strings.HasPrefix(c.to, "https") && name == "https" {
			fmt.Fprintf(&body, "ca_file = %q\n", dir+"/ca.pem")
		}
		if name == "tls" {
			fmt.Fprintf(&body, "insecure = true\n")
		}
	}
	u := builds.Start(t, rig.Config{Body: body.String()})
	for name, c := range cases {
		_, address, _ := strings.Cut(c.to, "://")
		found := false
		var last vmState
		rig.Eventually(t, name+": a check of "+address+" is "+c.state, func() bool {
			last = vmStates(t, u)[address]
			for _, check := range last.Checks {
				if check.State == c.state && strings.Contains(strings.ToLower(check.Reason), strings.ToLower(c.reason)) {
					found = true
				}
			}
			return found
		})
	}
	for _, v := range []*peer.VM{plain, secure} {
		for _, err := range v.Faults() {
			t.Errorf("a check is no proper request: %v", err)
		}
	}
	if strings.Contains(u.Access.String(), "/good") {
		t.Error("checks are in the access log")
	}
}

// TestChecksAreShared: sites that ask the same of an address ask once, a reload
// asks nothing again, and what is new is asked at once.
func TestChecksAreShared(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 500 Bad\r\nContent-Length: 0\r\n\r\n")
	}))
	fresh := peer.Listen(t, peer.Name("fresh"))
	body := fmt.Sprintf(`[defaults]
http = "forward"
health = { path = "/up", host = "vm", interval = "1h", fall = 1 }
[sites]
"a.test" = "http://%[1]s"
"b.test" = "http://%[1]s"
"c.test" = "http://%[1]s"
`, vm.Addr)
	u := builds.Start(t, rig.Config{Body: body})
	v := become(t, u, vm.Addr, "unhealthy")
	if v.Sites != 3 || len(v.Checks) != 1 || !strings.Contains(v.Why, "500") {
		t.Errorf("%+v", v)
	}
	u.Reload(body + fmt.Sprintf("\"d.test\" = [\"http://%s\", \"http://%s\"]\n", vm.Addr, fresh.Addr))
	if v := vmStates(t, u)[vm.Addr]; v.Health != "unhealthy" || v.Sites != 4 {
		t.Errorf("at once after a reload: %+v", v)
	}
	become(t, u, fresh.Addr, "healthy")
	if n := len(vm.Requests()); n != 1 {
		t.Errorf("four sites and a reload: it was asked %d times, not once", n)
	}
	if seen := shares(u.Dial(), "d.test", 20, nil); seen["fresh"] != 20 {
		t.Errorf("what is known before the reload counts: %v", seen)
	}
}

// TestOnlyVMIsRestartedUnderPOSTs: requests that may not be sent twice fail
// only if the VM may have begun them, and then say so.
func TestOnlyVMIsRestartedUnderPOSTs(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		<-time.After(time.Millisecond) // its work
		return l.Say(peer.Text(string(q.Body)))
	}))
	u := start(t, `[defaults]
http = "forward"
[sites]
"a.test" = "http://%s"`, vm.Addr)
	stop := make(chan struct{})
	var group sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for w := range 16 {
		c := u.Dial()
		group.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%04d-%05d", w, n)
				c.Send(fmt.Sprintf("POST /%s HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id))
				p := c.Response("POST")
				mu.Lock()
				count[p.Status]++
				mu.Unlock()
				if p.Status != 200 && p.Status != 502 || p.Status == 200 && string(p.Body) != id {
					t.Errorf("%s: %d %.100q", id, p.Status, p.Body)
				}
			}
		})
	}
	answered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return count[200]
	}
	for range 3 {
		n := answered()
		rig.Eventually(t, "the load goes on", func() bool { return answered() > n+200 })
		vm.Down()
		<-time.After(500 * time.Millisecond) // the length of the outage
		vm.Up()
	}
	n := answered()
	rig.Eventually(t, "the load goes on", func() bool { return answered() > n+200 })
	close(stop)
	group.Wait()
	seen := map[string]int{}
	for _, q := range vm.Requests() {
		seen[q.Target]++
	}
	for id, times := range seen {
		if times > 1 {
			t.Errorf("POST %s came to the VM %d times", id, times)
		}
	}
	for _, l := range u.Lines(t) {
		if l.Number("status") == 502 && seen[l.Text("path")] == 0 && l.Text("reason") == "" {
			t.Errorf("failed without a reason: %v", l)
		}
	}
	t.Logf("%v", count)
}
