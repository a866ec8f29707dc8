package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestLogLine: one line for each exchange and each tunnel, with what the
// contract lists.
func TestLogLine(t *testing.T) {
	t.Parallel()
	vm, raw := peer.Listen(t, peer.Name("vm")), peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"aaaa.test" = "http://%s"
"pass.test" = "passthrough://%s"`, vm.Addr, raw.Addr)
	u.TLS("aaaa.test").Get("aaaa.test", "/path?secret=1")
	l := u.Line(t, "the exchange", func(l rig.Line) bool { return l.Text("path") == "/path" })
	for key, want := range map[string]string{"client": "127.0.0.1", "site": "aaaa.test", "method": "GET", "host": "aaaa.test", "backend": vm.Addr, "tls_version": "1.3"} {
		if !strings.Contains(l.Text(key), want) {
			t.Errorf("%s is %q, want %q", key, l.Text(key), want)
		}
	}
	if l.Number("status") != 200 || l.Number("bytes_out") != 2 || l.Text("request_id") == "" || l.Text("time") == "" || l["duration_ms"] == nil || l["ttfb_ms"] == nil {
		t.Errorf("%v", l)
	}
	if strings.Contains(u.Access.String(), "secret") {
		t.Error("the query was logged")
	}
	c, hello := peer.Dial(t, u.HTTPS), string(helloFor(t, "pass.test"))
	c.Send(hello + "x")
	c.WantExact(hello + "x")
	c.Close()
	l = u.Line(t, "the tunnel", func(l rig.Line) bool { return l.Text("sni") == "pass.test" })
	if l.Number("bytes_in") != len(hello)+1 || l.Number("bytes_out") != len(hello)+1 || l.Text("backend") != raw.Addr || l.Text("closed_by") != "client" {
		t.Errorf("%v, hello has %d bytes", l, len(hello))
	}
}

// TestLogForging: no byte of a client's can end a line, or reach a terminal.
func TestLogForging(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := forwarding(t, vm)
	for _, request := range []string{
		"GET /\xc2\x9b31m HTTP/1.1\r\nHost: aaaa.test\r\n\r\n",
		"GET /\"},{\"x\":\"y HTTP/1.1\r\nHost: aaaa.test\r\n\r\n",
		"GET /\xff\xfe HTTP/1.1\r\nHost: aaaa.test\r\n\r\n",
		"GET /\x1b[31m HTTP/1.1\r\nHost: aaaa.test\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: aaaa\x0b.test\r\n\r\n",
		"G\x07T / HTTP/1.1\r\nHost: aaaa.test\r\n\r\n",
	} {
		c := u.Dial()
		c.Send(request)
		c.Response("GET")
	}
	for _, name := range []string{"a\nb.test", "a\x1b[31m.test", "a\x9b\xff.test", "{\"a\":1}.test"} {
		c := peer.Dial(t, u.HTTPS)
		c.Send(string(helloFor(t, name)))
		c.Rest(peer.Patience)
	}
	u.Dial().Get("aaaa.test", "/last")
	u.Line(t, "the last request", func(l rig.Line) bool { return l.Text("path") == "/last" })
	if n := len(u.Lines(t)); n < 7 {
		t.Errorf("%d lines", n)
	}
	text := u.Access.String() + u.Log.String()
	if !utf8.ValidString(text) {
		t.Error("not UTF-8")
	}
	for i, r := range text {
		if r != '\n' && r < ' ' || r >= 0x7f && r < 0xa0 {
			t.Errorf("control %U in %q", r, text[max(0, i-50):i+1])
			break
		}
	}
}

// TestLogFile: to a file, with the query, reopened on SIGHUP.
func TestLogFile(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	path := filepath.Join(t.TempDir(), "access.log")
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr), Log: "access = \"" + path + "\"\nquery = true"})
	holds := func(path, word string) bool {
		b, _ := os.ReadFile(path)
		return strings.Contains(string(b), word)
	}
	u.Dial().Get("aaaa.test", "/first?key=value")
	rig.Eventually(t, "the line is in the file", func() bool { return holds(path, "/first") && holds(path, "key=value") })
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	u.Signal(syscall.SIGHUP)
	rig.Eventually(t, "the file is opened again", func() bool { _, err := os.Stat(path); return err == nil })
	u.Dial().Get("aaaa.test", "/second")
	rig.Eventually(t, "the line is in the new file", func() bool { return holds(path, "/second") })
	if holds(path+".1", "/second") {
		t.Error("the old file is still written")
	}
	b, _ := os.ReadFile(path)
	for l := range strings.Lines(string(b)) {
		if !json.Valid([]byte(l)) {
			t.Errorf("%q", l)
		}
	}
}

// TestLogStalls: whoever reads the log and stops costs no request.
func TestLogStalls(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0) // a reader that never reads
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr), Log: "access = \"" + path + "\""})
	c := u.Dial()
	for i := range 3000 { // far more than a pipe holds
		if p := c.Get("aaaa.test", "/"); p.Status != 200 {
			t.Fatalf("request %d: %d", i, p.Status)
		}
	}
}
