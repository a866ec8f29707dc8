package server

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestExplainForward: the outcome of a raw URL is what e2e's own tests find.
func TestExplainForward(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := `state_dir = "state"
[listen]
http3 = false
[vms]
web1 = "127.0.0.1"
[sites]
"own.test" = { to = "http://web1:1", transparent = true }
[[forward]]
listen = ":2222"
to = ["web1:22", "10.0.0.1:22"]
[[forward]]
listen = "127.0.0.1:53"
protocol = "udp"
to = "10.0.0.1:53"
proxy_protocol = "v2"
transparent = true
[[forward]]
listen = ":8883"
to = "10.0.0.9:1"
[forward.sni]
"mqtt.test" = "passthrough://10.0.0.1:8883"
"*.things.test" = { to = "tcp://10.0.0.2:1883", certificate = "local" }
[[forward]]
listen = ":993"
sni = { "imap.test" = "tcp://10.0.0.3:143" }
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ url, last string }{
		{"tcp://:2222", "tcp://127.0.0.1:22 (web1) or tcp://10.0.0.1:22, every byte"},
		{"tcp://edge.test:2222", "every byte"},
		{"tcp://edge.test:2223", "no connection"},
		{"udp://edge.test:2222", "no connection"},
		{"tcp://mqtt.test:8883", "passthrough://10.0.0.1:8883, every byte"},
		{"tcp://a.things.test:8883", "tcp://10.0.0.2:1883, every byte"},
		{"tcp://other.test:8883", "tcp://10.0.0.9:1, every byte"},
		{"tcp://imap.test:993", "tcp://10.0.0.3:143, every byte"},
		{"tcp://other.test:993", "unrecognized_name"},
		{"tcp://192.0.2.1:993", "unrecognized_name"},
		{"udp://127.0.0.2:53", "no connection"},
		{"udp://127.0.0.1:53", "ip route replace default via "},
		{"https://own.test/", "ip route replace default via 127.0.0.1"},
	} {
		got, err := Explain(file, ExplainRequest{URL: c.url})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		if !strings.Contains(outcome(got), c.last) {
			t.Errorf("%s: %v, want %q", c.url, got.Lines, c.last)
		}
		transparent := strings.HasPrefix(c.url, "udp://127.0.0.1") || strings.HasPrefix(c.url, "https")
		if told := slices.ContainsFunc(got.Lines, func(l Line) bool { return l.Label == "on the edge" }); told != transparent {
			t.Errorf("%s: rules for the edge: %v", c.url, told)
		}
	}
	for _, url := range []string{"tcp://edge.test", "sctp://edge.test:1", "tcp://"} {
		if got, err := Explain(file, ExplainRequest{URL: url}); err == nil {
			t.Errorf("%s: %v", url, got.Lines)
		}
	}
}
