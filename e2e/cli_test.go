package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestCommands: every command that talks to the process, for people and for
// scripts.
func TestCommands(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[vms]
web1 = "127.0.0.1"
[sites]
"aaaa.test" = "http://web1:%d"
"pass.test" = "passthrough://%s"`, rig.Port(vm.Addr), vm.Addr)
	u.TLS("aaaa.test").Get("aaaa.test", "/")
	for command, words := range map[string][]string{
		"status": {u.HTTP, u.HTTPS}, "sites": {"aaaa.test", "pass.test"}, "vms": {"web1"}, "certs": {"aaaa.test"},
	} {
		out, errs, code := u.CLI(command)
		if code != 0 {
			t.Errorf("%s: %d %s", command, code, errs)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s says nothing of %s:\n%s", command, w, out)
			}
		}
		if out, _, code := u.CLI(command, "--json"); code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%s --json: %d %s", command, code, out)
		}
		if out, _, code := u.CLI(command, "--help"); code != 0 || !strings.Contains(out, command) {
			t.Errorf("%s --help: %d %s", command, code, out)
		}
		// a broken file is no obstacle to asking
		peer.Replace(t, u.File, []byte(u.Text("[sites")))
		if _, errs, code := u.CLI(command); code != 0 {
			t.Errorf("%s with a broken file: %d %s", command, code, errs)
		}
	}
	for _, args := range [][]string{{"drain", "nobody"}, {"undrain", "nobody"}, {"import", "nginx", u.File}} {
		if _, errs, code := u.CLI(args...); code != 1 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d %q", args, code, errs)
		}
	}
	if out, _, code := u.CLI("version"); code != 0 || !strings.Contains(out, "usher") {
		t.Errorf("version: %d %q", code, out)
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if out, _, code := u.CLI("completion", shell); code != 0 || !strings.Contains(out, "usher") {
			t.Errorf("completion %s: %d", shell, code)
		}
	}
}

// TestNobodyThere: without a process the commands say so in one line.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	u := builds.Prepare(t, rig.Config{Body: "[sites]\n\"aaaa.test\" = \"http://10.0.0.1\""})
	for _, command := range []string{"status", "sites", "vms", "certs", "reload"} {
		if _, errs, code := u.CLI(command); code != 1 || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, u.Admin) {
			t.Errorf("%s: %d %q", command, code, errs)
		}
	}
}

// TestExplain says beforehand what then happens.
func TestExplain(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites]
"pass.test" = "passthrough://%[1]s"
[sites."aaaa.test"]
to = "http://%[1]s"
[sites."aaaa.test".paths]
"/api/" = "http://127.0.0.1:9999"`, vm.Addr)
	for url, words := range map[string][]string{
		"https://aaaa.test/x":     {"aaaa.test", vm.Addr},
		"https://aaaa.test/api/x": {"/api/", "127.0.0.1:9999"},
		"http://aaaa.test/x":      {"308"},
		"https://pass.test/":      {"passthrough", vm.Addr},
		"https://none.test/":      {"unrecognized_name"},
		"http://none.test/":       {"404"},
	} {
		out, errs, code := u.CLI("explain", url, "--from", "192.0.2.7", "-H", "X-A: b")
		if code != 0 {
			t.Errorf("%s: %d %s", url, code, errs)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s: nothing of %q in\n%s", url, w, out)
			}
		}
	}
}

// TestAdminIsPrivate: the API is on no public listener, and a web page cannot
// reach it either.
func TestAdminIsPrivate(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	admin, metrics := rig.FreePort(t, "127.0.0.1"), rig.FreePort(t, rig.LoopbackIP())
	u := builds.Prepare(t, rig.Config{Body: forward("aaaa.test", vm.Addr) + fmt.Sprintf("[metrics]\nlisten = %q\n", metrics)})
	text := strings.Replace(u.Text(forward("aaaa.test", vm.Addr)+fmt.Sprintf("[metrics]\nlisten = %q\n", metrics)), "unix:"+u.Admin, admin, 1)
	peer.Replace(t, u.File, []byte(text))
	u.AdminTCP = admin
	u.Run()
	u.WaitReady()
	if out, errs, code := u.CLI("status"); code != 0 {
		t.Fatalf("status over TCP: %d %s%s", code, out, errs)
	}
	get := func(addr, path, host, origin, method string) int {
		req, _ := http.NewRequest(method, "http://"+addr+path, nil)
		if host != "" {
			req.Host = host
		}
		if origin != "" {
			req.Header.Set("Origin", origin)
		}
		p, err := http.DefaultTransport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, p.Body)
		p.Body.Close()
		return p.StatusCode
	}
	if s := get(admin, "/metrics", "", "", "GET"); s != 200 {
		t.Errorf("metrics on the admin listener: %d", s)
	}
	for _, at := range []string{admin, metrics} {
		if s := get(at, "/healthz", "", "", "GET"); s != 200 {
			t.Errorf("health at %s: %d", at, s)
		}
	}
	if s := get(admin, "/metrics", "evil.example", "", "GET"); s < 400 {
		t.Errorf("another Host on the admin listener: %d", s)
	}
	if s := get(admin, "/metrics", "", "http://evil.example", "GET"); s < 400 {
		t.Errorf("another Origin on the admin listener: %d", s)
	}
	if s := get(metrics, "/metrics", "", "", "POST"); s != 405 {
		t.Errorf("POST to metrics: %d", s)
	}
	for _, path := range []string{"/metrics", "/healthz", "/status", "/reload", "/api/status"} {
		if p := u.Dial().Get("aaaa.test", path); string(p.Body) != "vm" {
			t.Errorf("%s on the public listener is usher's: %d %q", path, p.Status, p.Body)
		}
		if p := u.Dial().Get("localhost", path); p.Status != 404 {
			t.Errorf("%s on the public listener for localhost: %d", path, p.Status)
		}
	}
	public := strings.Replace(u.Text(forward("aaaa.test", vm.Addr)), "unix:"+u.Admin, "0.0.0.0:9180", 1)
	peer.Replace(t, u.File, []byte(public))
	if out, errs, code := u.CLI("check"); code != 1 || !strings.Contains(out+errs, "loopback") {
		t.Errorf("a public admin listener: %d %s%s", code, out, errs)
	}
}

// TestMetrics counts what happened, in a number of series that sites do not
// drive up.
func TestMetrics(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	metrics := rig.FreePort(t, rig.LoopbackIP())
	var body strings.Builder
	body.WriteString(fmt.Sprintf("[metrics]\nlisten = %q\n", metrics))
	body.WriteString(forward("aaaa.test", vm.Addr))
	for i := range 3000 {
		fmt.Fprintf(&body, "\"s%d.test\" = \"http://%s\"\n", i, vm.Addr)
	}
	u := builds.Start(t, rig.Config{Body: body.String()})
	c := u.Dial()
	for range 5 {
		c.Get("aaaa.test", "/")
	}
	for i := range 1500 {
		c.Get(fmt.Sprintf("s%d.test", i), "/")
	}
	p, err := http.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Body.Close()
	b, _ := io.ReadAll(p.Body)
	if n := strings.Count(string(b), "\n"); n > 40_000 {
		t.Errorf("%d lines", n)
	}
	sites := map[string]bool{}
	for l := range strings.Lines(string(b)) {
		if _, rest, ok := strings.Cut(l, `site="`); ok {
			site, _, _ := strings.Cut(rest, `"`)
			sites[site] = true
		}
	}
	if len(sites) == 0 || len(sites) > 1001 {
		t.Errorf("%d sites have a label", len(sites))
	}
}

// TestExampleFile: the example is good, and what the README promises of it is
// true.
func TestExampleFile(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../config.example.toml")
	if err != nil {
		t.Fatal(err)
	}
	u := builds.Prepare(t, rig.Config{})
	text := strings.NewReplacer("127.0.0.1:8080", u.HTTP, "127.0.0.1:8443", u.HTTPS,
		`#listen = "unix:/run/usher/admin.sock"`, `listen = "unix:`+u.Admin+`"`).Replace(string(b))
	peer.Replace(t, u.File, []byte(text))
	if out, errs, code := u.CLI("check"); code != 0 {
		t.Fatalf("check: %d %s%s", code, out, errs)
	}
	u.Run()
	u.WaitReady()
	if p := u.TLS("test.localhost").Get("test.localhost", "/"); p.Status != 200 {
		t.Errorf("whoami: %d %q", p.Status, p.Body)
	}
	peer.Replace(t, u.File, []byte(strings.Replace(text, "[sites]\n", "[sites]\n\"two.localhost\" = \"whoami://\"\n", 1)))
	rig.EventuallyWithin(t, within, "the new site is live", func() bool { return u.Dial().Get("two.localhost", "/").Status == 308 })
}
