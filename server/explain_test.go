package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplain holds the outcome against what proxy's own tests say of the
// same requests.
func TestExplain(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	text := `state_dir = "state"
[listen]
http = ["127.0.0.1:8080"]
https = ["127.0.0.1:8443"]
trusted_proxies = ["10.0.0.0/8"]
[sites]
"a.test" = "http://127.0.0.1:1"
"*.wild.test" = "http://127.0.0.1:2"
"through.test" = { to = "passthrough://127.0.0.1:3", http_port = 81 }
"acme.test" = { to = "http://127.0.0.1:4", certificate = "acme" }
"refuse.test" = { to = "http://127.0.0.1:5", http = "refuse" }
"here.test" = "redirect://A.Test"
"away.test" = "redirect://example.org:99"
"bad.test" = "http://bad host"
[sites."paths.test"]
to = "http://127.0.0.1:6"
http = "forward"
[sites."paths.test".paths]
"/api/" = "http://127.0.0.1:7"
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	const challenge = "/.well-known/acme-challenge/t"
	for _, c := range []struct{ url, host, last string }{
		{"https://a.test/x", "", "http://127.0.0.1:1"},
		{"http://a.test/x?q", "", "308 to https://a.test:8443/x?q"},
		{"https://A.test.:8443/", "", "http://127.0.0.1:1"},
		{"https://x.wild.test/", "", "http://127.0.0.1:2"},
		{"https://x.wild.test/", "y.wild.test", "http://127.0.0.1:2"},
		{"https://x.y.wild.test/", "", "unrecognized_name"},
		{"http://nobody.test/", "", "404"},
		{"https://a.test/", "nobody.test", "404"},
		{"https://a.test/", "acme.test", "421"},
		{"https://a.test/", "through.test", "421"},
		{"https://through.test/", "a.test", "every byte"},
		{"http://a.test/", "paths.test", "http://127.0.0.1:6"},
		{"https://through.test" + challenge, "", "every byte"},
		{"http://through.test" + challenge, "", "plain port 81"},
		{"http://acme.test" + challenge, "", "else 404"},
		{"http://acme.test/.well-known/acme%2Dchallenge/t", "", "400"},
		{"http://a.test" + challenge, "", "http://127.0.0.1:1"},
		{"http://refuse.test/", "", "403"},
		{"https://refuse.test/", "", "http://127.0.0.1:5"},
		{"http://here.test/p?q", "", "308 to https://A.Test:8443/p?q"},
		{"https://away.test/", "", "308 to https://example.org:99/"},
		{"http://paths.test/api/x", "", "http://127.0.0.1:7"},
		{"http://paths.test/api", "", "http://127.0.0.1:6"},
		{"http://paths.test/x/../api/", "", "400"},
		{"https://bad.test/", "", "503"},
	} {
		r := ExplainRequest{URL: c.url}
		if c.host != "" {
			r.Header = http.Header{"Host": {c.host}}
		}
		e, err := Explain(file, r)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if last := outcome(e); !strings.Contains(last, c.last) {
			t.Errorf("%s, Host %q: %q, want %q", c.url, c.host, last, c.last)
		}
	}
	e, err := Explain(file, ExplainRequest{URL: "https://a.test", From: "192.0.2.1", Header: http.Header{"X-Forwarded-For": {"1.1.1.1"}}})
	if err != nil || !strings.Contains(explained(e), "X-Forwarded-For is dropped") {
		t.Errorf("%v, %v", e, err)
	}
}

func explained(e *Explanation) string {
	var b strings.Builder
	for _, l := range e.Lines {
		b.WriteString(l.Label + " " + l.Text + "\n")
	}
	return b.String()
}

// outcome is the last line of what happens; those after it say more of it.
func outcome(e *Explanation) (text string) {
	for _, l := range e.Lines {
		switch l.Label {
		case "answer", "backend", "on the VM", "host", "site":
			text = l.Text
		}
	}
	return text
}

// TestExplainVMs: what is said of how backends are chosen, checked and started.
func TestExplainVMs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	text := `state_dir = "state"
[vms]
web1 = { address = "10.0.0.1", max_conns = 7, health = { path = "/up", port = 81 } }
web2 = { discover = { source = "libvirt", domain = "two" }, start = "builtin", stop = "builtin", idle_stop = "30m" }
hung = { address = "10.0.0.3", restart = "virsh reset hung" }
[sites]
"one.test" = "http://10.0.0.9"
"two.test" = { to = ["http://web1", { to = "http://web2", weight = 3 }], sticky = true, slow_start = "30s" }
"name.test" = "http://web.lan"
"hung.test" = { to = "http://hung", adaptive_concurrency = true, hold = "0s" }
"pass.test" = { to = ["passthrough://10.0.0.5", "passthrough://10.0.0.6"], balance = "ip_hash", health = true }
[[forward]]
listen = ":2222"
to = ["web1:22", { to = "10.0.0.8:22", backup = true }]
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string][]string{
		"https://one.test/": {"health not checked", "no answer held up to 5s, then 502"},
		"https://two.test/": {
			"balance random2", "web2 has weight 3", "full share after 30s", `sticky cookie "usher_sticky"`, "limit web1 7 at once from all sites",
			"health web1: GET /up is 200-399 at port 81 every 2s", "health web2: TCP connection every 2s", "never the last",
			`vm web2 its address is asked of libvirt at qemu:///system, domain "two"`, "started by what its discovery has built in", "stopped after 30m0s",
		},
		"https://name.test/":  {"health once there are several addresses: TCP connection every 2s"},
		"https://hung.test/":  {"health TCP connection", "restarted after 1m0s of failing checks, at most every 10m0s, by \"virsh reset hung\"", "adaptive", "not held"},
		"https://pass.test/":  {"balance ip_hash", "health TLS handshake", "then the connection is closed"},
		"tcp://any.test:2222": {"balance random2", "tcp://10.0.0.8:22 only when none", "web1 7 at once"},
	} {
		e, err := Explain(file, ExplainRequest{URL: url})
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(explained(e), w) {
				t.Errorf("%s: no %q in\n%s", url, w, explained(e))
			}
		}
	}
}
