package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
)

const twoVMs = `[sites]
"app.test" = ["http://%[1]s", "http://%[2]s"]
"pass.test" = ["passthrough://%[3]s", "passthrough://%[4]s"]`

// twoNginx are two VMs behind app.test (terminated) and pass.test (passthrough).
func twoNginx(t *testing.T) (u *rig.Usher, vms [2]*mortal, roots *x509.CertPool) {
	t.Helper()
	ca := peer.NewCA(t)
	vms = [2]*mortal{newMortal(t, ca, "one", "pass.test"), newMortal(t, ca, "two", "pass.test")}
	u = builds.Start(t, rig.Config{Body: fmt.Sprintf(twoVMs, vms[0].Plain, vms[1].Plain, vms[0].Secure, vms[1].Secure)})
	u.TLS("app.test").Close() // makes the local CA
	roots = u.Roots()
	roots.AppendCertsFromPEM(ca.PEM)
	return u, vms, roots
}

// visitors is a client of one protocol with connections of its own.
func visitors(t *testing.T, u *rig.Usher, p protopeer.Proto, roots *x509.CertPool) *http.Client {
	t.Helper()
	tr, err := protopeer.NewTransport(p, u.HTTPS, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

// TestVMIsKilled: of two VMs one is killed and started again, ten times, under
// load of 64 connections. No GET fails, over HTTP/1.1 and HTTP/2; no tunnel
// that is opened while one VM is down.
func TestVMIsKilled(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() {
		rounds = 2
	}
	u, vms, roots := twoNginx(t)
	var killed atomic.Int64 // when the last kill had ended
	l := newLoad(t)
	l.add(24, visitors(t, u, protopeer.H1, roots), "https://app.test/page", nil)
	for range 16 { // each a connection of its own
		l.add(1, visitors(t, u, protopeer.H2, roots), "https://app.test/page", nil)
	}
	fresh := visitors(t, u, protopeer.H1, roots)
	fresh.Transport.(*http.Transport).DisableKeepAlives = true
	l.add(24, fresh, "https://pass.test/page", func(began time.Time) bool {
		return began.UnixNano() <= killed.Load() // the tunnel was cut by the kill itself
	})
	for n := range rounds {
		vm := vms[n%2]
		l.goesOn(500)
		killed.Store(time.Now().Add(time.Hour).UnixNano())
		vm.Kill()
		killed.Store(time.Now().UnixNano())
		l.goesOn(1000)
		vm.Up()
	}
	l.goesOn(500)
	l.end()
	if t.Failed() {
		reasons := make(map[string]int)
		for _, line := range u.Lines(t) {
			if line.Number("status") >= 500 {
				reasons[line.Text("reason")]++
			}
		}
		t.Logf("why: %v", reasons)
	}
}

// TestOnlyVMIsRestarted: with one VM, visitors wait while it restarts.
func TestOnlyVMIsRestarted(t *testing.T) {
	t.Parallel()
	vm := newMortal(t, peer.NewCA(t), "one", "pass.test")
	u := start(t, `[sites]
"app.test" = "http://%s"`, vm.Plain)
	u.TLS("app.test").Close()
	l := newLoad(t)
	l.add(16, visitors(t, u, protopeer.H1, u.Roots()), "https://app.test/page", nil)
	l.add(4, visitors(t, u, protopeer.H2, u.Roots()), "https://app.test/page", nil)
	for range 3 {
		l.goesOn(300)
		vm.Kill()
		<-time.After(2 * time.Second) // the length of the outage
		vm.Up()
	}
	l.goesOn(300)
	l.end()
}

// who asks which VM answers, n times, and counts.
func who(t *testing.T, c *http.Client, n int) map[string]int {
	t.Helper()
	seen := make(map[string]int)
	for range n {
		seen[text(t, c, "GET", "https://app.test/who", nil, 200)]++
	}
	return seen
}

// TestEqualVMsShareEvenly: 10,000 requests differ by at most 5 % of them.
func TestEqualVMsShareEvenly(t *testing.T) {
	t.Parallel()
	u, _, roots := twoNginx(t)
	seen := who(t, visitors(t, u, protopeer.H1, roots), 10_000)
	if d := seen["one"] - seen["two"]; d > 500 || d < -500 || len(seen) != 2 {
		t.Errorf("10,000 requests are shared as %v", seen)
	}
}

// TestDrainAndUndrain: a drained VM gets no new work, over reloads and a
// restart of usher; with every VM drained the site answers 503.
func TestDrainAndUndrain(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	one, two := newMortal(t, ca, "one", "pass.test"), newMortal(t, ca, "two", "pass.test")
	host := func(m *mortal) (ip, port string) { ip, port, _ = strings.Cut(m.Plain, ":"); return }
	ip1, port1 := host(one)
	ip2, port2 := host(two)
	body := `[vms]
web1 = "` + ip1 + `"
web2 = { address = "` + ip2 + `" }
[sites]
"app.test" = ["http://web1:` + port1 + `", "http://web2:` + port2 + `"]`
	u := builds.Start(t, rig.Config{Body: body})
	u.TLS("app.test").Close()
	c := visitors(t, u, protopeer.H1, u.Roots())
	command := func(args ...string) {
		t.Helper()
		if out, errs, code := u.CLI(args...); code != 0 {
			t.Fatalf("usher %v: %d %s%s", args, code, out, errs)
		}
	}
	only := func(name string) {
		t.Helper()
		if seen := who(t, c, 50); seen[name] != 50 {
			t.Errorf("of 50 requests all are for %s: %v", name, seen)
		}
	}
	if seen := who(t, c, 50); len(seen) != 2 {
		t.Errorf("both VMs work: %v", seen)
	}
	command("drain", "web1")
	only("two")
	u.Reload(body + "\n\"new.test\" = \"http://web1:" + port1 + `"`)
	only("two")
	if out, _, _ := u.CLI("vms"); !strings.Contains(out, "drained") {
		t.Errorf("usher vms says nothing of it:\n%s", out)
	}
	if out, _, _ := u.CLI("status"); !regexp.MustCompile(`(?m)^drained +web1$`).MatchString(out) {
		t.Errorf("usher status says nothing of it:\n%s", out)
	}
	restart(u)
	only("two")
	command("drain", "web2")
	r, err := c.Get("https://app.test/who")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("with every VM drained: %d, Retry-After %q", r.StatusCode, r.Header.Get("Retry-After"))
	}
	command("undrain", "web1")
	only("one")
	if _, errs, code := u.CLI("drain", "web3"); code != 1 || !strings.Contains(errs, "web3") {
		t.Errorf("a VM that there is not: %d %s", code, errs)
	}
}

// TestWake: the first visitor starts a VM that sleeps; API clients wait for
// it, browsers see a page that asks again; the hook runs once.
func TestWake(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("awake"))
	ip, port, _ := strings.Cut(vm.Addr, ":")
	vm.Down()
	hook := script(t, "start", `echo started >> "$(dirname "$0")/log"`+"\n")
	u := start(t, `[timeouts]
hold = "1s"
[vms]
web1 = { address = %q, start = %q, start_timeout = "30s" }
[sites]
"app.test" = { to = "http://web1:%s", http = "forward" }`, ip, hook, port)
	browser := u.Dial().Get("app.test", "/", "Accept: text/html")
	if browser.Status != 503 || !strings.Contains(string(browser.Body), "refresh") || browser.Header.Get("Retry-After") == "" {
		t.Errorf("a browser is answered %d %.300q", browser.Status, browser.Body)
	}
	api := u.Dial()
	api.Send(peer.Get("app.test", "/", "Accept: application/json"))
	<-time.After(2 * time.Second) // longer than hold
	vm.Up()
	if p := api.Response("GET"); p.Status != 200 || string(p.Body) != "awake" {
		t.Errorf("an API client is answered %d %.300q", p.Status, p.Body)
	}
	if out, err := os.ReadFile(strings.TrimSuffix(hook, "start") + "log"); string(out) != "started\n" {
		t.Errorf("the hook left %q, %v", out, err)
	}
}
