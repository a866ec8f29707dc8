package e2e

import (
	"crypto/tls"
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
