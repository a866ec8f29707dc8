package server

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExplain holds the last line against what proxy's own tests say of the
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
		if last := e.Lines[len(e.Lines)-1]; !strings.Contains(last.Text, c.last) {
			t.Errorf("%s, Host %q: %q, want %q", c.url, c.host, last.Text, c.last)
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
