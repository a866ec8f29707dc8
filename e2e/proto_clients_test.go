package e2e

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"usher/e2e/rig"
)

// aSite is an usher before a handler, at aaaa.test.
func aSite(t *testing.T, h http.HandlerFunc) *rig.Usher {
	t.Helper()
	u := start(t, `[sites]
"aaaa.test" = "http://%s"`, serveHTTP(t, nil, h))
	u.TLS("aaaa.test").Close()
	return u
}

// greet answers with the size that the query asks for, and with what came.
func greet(w http.ResponseWriter, r *http.Request) {
	n, _ := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "%s %s with %d bytes\n", r.Method, r.URL.Path, n)
}

// TestProtoCurl: curl speaks HTTP/2 by ALPN, with uploads of all kinds.
func TestProtoCurl(t *testing.T) {
	t.Parallel()
	u := aSite(t, greet)
	big := t.TempDir() + "/big"
	if err := os.WriteFile(big, make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"GET /x with 0 bytes\n2 200":         {"--http2"},
		"PUT /x with 5242880 bytes\n2 200":   {"--http2", "-T", big},
		"POST /x with 5242880 bytes\n2 200":  {"--http2", "-H", "Expect: 100-continue", "--data-binary", "@" + big},
		"POST /x with 3 bytes\n1.1 200":      {"--http1.1", "-d", "a=b"},
		"DELETE /x with 0 bytes\n2 200":      {"-X", "DELETE"},
		"GET /x with 0 bytes\n2 200\n2 200":  {"--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}\n", "https://aaaa.test/y"},
		"POST /x with 5242880 bytes\n2 200 ": {"--http2", "-H", "Transfer-Encoding:", "-X", "POST", "-T", big},
	} {
		args = append(args, "-sk", "--connect-to", "aaaa.test:443:"+u.HTTPS, "-w", "%{http_version} %{http_code}", "https://aaaa.test/x")
		out, err := rig.Tool(t, "curl", args...)
		if err != nil || !sameEnd(out, want) {
			t.Errorf("curl %v: %q, %v", args, out, err)
		}
	}
}

// sameEnd compares what curl wrote of its last transfer.
func sameEnd(out, want string) bool {
	lines := strings.Split(strings.TrimSpace(want), "\n")
	return strings.Contains(out, lines[0]) && strings.HasSuffix(strings.TrimSpace(out), lines[1])
}

// TestNghttp: nghttp2's client gets a page and uploads, with padding, with
// small windows and with a dependency tree.
func TestNghttp(t *testing.T) {
	t.Parallel()
	u := aSite(t, greet)
	body := t.TempDir() + "/body"
	if err := os.WriteFile(body, make([]byte, 300_000), 0o600); err != nil {
		t.Fatal(err)
	}
	_, p, _ := net.SplitHostPort(u.HTTPS)
	for want, args := range map[string][]string{
		"GET /x with 0 bytes":       {"-v"},
		"POST /x with 300000 bytes": {"-v", "-d", body},
		"; END_STREAM":              {"-v", "-w", "1", "-W", "1", "-b", "100"}, // each byte a frame
		"GET /x with 0 bytes ":      {"-v", "-m", "50", "--no-dep"},
		"GET /x with 0 bytes  ":     {"-v", "--hexdump", "--header-table-size=0"},
	} {
		args = append(args, "--timeout=20", "-H", ":authority: aaaa.test", "https://"+net.JoinHostPort(u.IP, p)+"/x")
		out, err := rig.Tool(t, "nghttp", args...)
		if err != nil || !strings.Contains(out, ":status: 200") || !strings.Contains(out, strings.TrimSpace(want)) {
			t.Errorf("nghttp %v: %v\n%.2000s", args, err, out)
		}
	}
}

// TestH2load: nghttp2's load generator counts what it gets: everything.
func TestH2load(t *testing.T) {
	t.Parallel()
	u := aSite(t, greet)
	for _, args := range [][]string{
		{"-n", "20000", "-c", "20", "-m", "100"},
		{"-n", "2000", "-c", "100", "-m", "10", "-d", "e2e_body"},
	} {
		n := args[1]
		if args[len(args)-1] == "e2e_body" {
			body := t.TempDir() + "/body"
			if err := os.WriteFile(body, make([]byte, 20_000), 0o600); err != nil {
				t.Fatal(err)
			}
			args[len(args)-1] = body
		}
		args = append(args, "--connect-to="+u.HTTPS, "https://aaaa.test/x")
		out, err := rig.Tool(t, "h2load", args...)
		want := fmt.Sprintf("%[1]s total, %[1]s started, %[1]s done, %[1]s succeeded, 0 failed, 0 errored, 0 timeout", n)
		if err != nil || !strings.Contains(out, want) || !strings.Contains(out, "Application protocol: h2") {
			t.Errorf("h2load %v: %v\n%s", args, err, out)
		}
	}
}

// TestBrowserOfManyResources: headless Chromium loads a page of 200 resources
// over HTTP/2, and over HTTP/3 when it is told to.
func TestBrowserOfManyResources(t *testing.T) {
	t.Parallel()
	for proto, args := range map[string][]string{
		"h2": {"--disable-quic"},
		"h3": {"--enable-quic"},
	} {
		t.Run(proto, func(t *testing.T) {
			var loaded atomic.Int32
			u := start(t, `[sites]
"test.localhost" = "http://%s"`, serveHTTP(t, nil, func(w http.ResponseWriter, r *http.Request) { page(w, r, &loaded) }))
			cert := u.TLS("test.localhost").Certificate()
			pin := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
			_, https, _ := net.SplitHostPort(u.HTTPS)
			if proto == "h3" {
				args = append(args, "--origin-to-force-quic-on=test.localhost:"+https)
			}
			out, err := rig.Tool(t, "chromium", append(args, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
				"--disable-background-networking", "--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
				"--host-resolver-rules=MAP test.localhost "+u.IP, "--virtual-time-budget=20000",
				"--ignore-certificate-errors-spki-list="+base64.StdEncoding.EncodeToString(pin[:]),
				"--dump-dom", "https://test.localhost:"+https+"/")...)
			if err != nil || !strings.Contains(out, "200 loaded, 0 failed") {
				t.Errorf("%v: %.3000s", err, out)
			}
			if used := regexp.MustCompile(`protocols: (\w*)<`).FindStringSubmatch(out); used == nil || used[1] != proto {
				t.Errorf("the browser used %v", used)
			}
			if loaded.Load() != 200 {
				t.Errorf("the VM served %d resources", loaded.Load())
			}
			number := map[string]string{"h2": "HTTP/2.0", "h3": "HTTP/3.0"}[proto]
			for _, l := range u.Lines(t) {
				if l.Text("type") == "exchange" && l.Text("proto") != number && l.Text("path") != "/favicon.ico" {
					t.Errorf("%s came by %s", l.Text("path"), l.Text("proto"))
					break
				}
			}
		})
	}
}

// page is a document whose script fetches 200 resources and says which
// protocols they came by.
func page(w http.ResponseWriter, r *http.Request, loaded *atomic.Int32) {
	switch {
	case r.URL.Path == "/":
		w.Header().Set("Content-Type", "text/html")
		io.WriteString(w, `<!doctype html><title>many</title><p id=out>waiting</p><script>
const all = [...Array(200).keys()].map(i => fetch("/r/" + i).then(r => r.arrayBuffer()).then(b => { if (b.byteLength != 10000) throw b.byteLength }))
Promise.allSettled(all).then(done => {
  const used = new Set(performance.getEntriesByType("resource").map(e => e.nextHopProtocol))
  const ok = done.filter(d => d.status == "fulfilled").length
  document.getElementById("out").textContent = ok + " loaded, " + (200 - ok) + " failed, protocols: " + [...used].join()
})</script>`)
	case strings.HasPrefix(r.URL.Path, "/r/"):
		loaded.Add(1)
		io.CopyN(w, zeros{}, 10_000)
	default:
		http.NotFound(w, r)
	}
}
