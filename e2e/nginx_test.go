package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// nginx runs Debian's nginx with a plain and a TLS port over one directory.
func nginx(t *testing.T, ca *peer.CA, names ...string) (plain, secure, root string) {
	t.Helper()
	ip, dir := rig.LoopbackIP(), t.TempDir()
	plain, secure, root = rig.FreePort(t, ip), rig.FreePort(t, ip), filepath.Join(dir, "www")
	cert, key := ca.Write(dir, "nginx", names...)
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off;
master_process off;
worker_processes 1;
pid %[1]s/pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	client_max_body_size 0;
	gzip on;
	gzip_min_length 1;
	gzip_types text/plain;
	types { text/plain txt; }
	server {
		listen %[2]s;
		listen %[3]s ssl;
		ssl_certificate %[4]s;
		ssl_certificate_key %[5]s;
		root %[6]s;
		location = /who { return 200 "host=$host for=$http_x_forwarded_for proto=$http_x_forwarded_proto tls=$https sni=$ssl_server_name\n"; }
		location /up/ { dav_methods PUT DELETE; }
	}
}
`, dir, plain, secure, cert, key, root)
	peer.Replace(t, conf, []byte(text))
	if err := os.MkdirAll(filepath.Join(root, "up"), 0o777); err != nil {
		t.Fatal(err)
	}
	rig.Daemon(t, nil, plain, rig.Find(t, "nginx"), "-e", dir+"/error.log", "-p", dir, "-c", conf)
	return plain, secure, root
}

// client is Go's own, which finds every host at the listeners of u.
func client(t testing.TB, u *rig.Usher) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: u.Roots()}}
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := u.HTTPS
		if strings.HasSuffix(addr, ":80") {
			to = u.HTTP
		}
		return new(net.Dialer).DialContext(ctx, network, to)
	}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// TestNginx: Debian's nginx as VM, over HTTP and over verified HTTPS, read by
// Go's client.
func TestNginx(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	plain, secure, root := nginx(t, ca, "secure.test")
	file := make([]byte, 5<<20)
	rand.New(rand.NewSource(2)).Read(file)
	peer.Replace(t, filepath.Join(root, "file.bin"), file)
	peer.Replace(t, filepath.Join(root, "page.txt"), []byte(strings.Repeat("words ", 10_000)))
	dir := t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	u := start(t, `[sites]
"plain.test" = "http://%s"
[sites."secure.test"]
to = "https://%s"
ca_file = "%s/ca.pem"`, plain, secure, dir)
	for _, host := range []string{"plain.test", "secure.test"} {
		u.TLS(host).Close()
	}
	c := client(t, u)
	for _, host := range []string{"plain.test", "secure.test"} {
		who := text(t, c, "GET", "https://"+host+"/who", nil, 200)
		if !strings.Contains(who, "host="+host+" for=127.0.0.1 proto=https") || host == "secure.test" && !strings.Contains(who, "tls=on sni=secure.test") {
			t.Errorf("%s: nginx saw %s", host, who)
		}
		if got := text(t, c, "GET", "https://"+host+"/file.bin", nil, 200); got != string(file) {
			t.Errorf("%s: a file of %d bytes arrived as %d others", host, len(file), len(got))
		}
		if got := text(t, c, "GET", "https://"+host+"/page.txt", nil, 200); len(got) != 60_000 { // gzip, chunked
			t.Errorf("%s: a compressed page has %d bytes", host, len(got))
		}
		text(t, c, "HEAD", "https://"+host+"/file.bin", nil, 200)
		text(t, c, "GET", "https://"+host+"/none", nil, 404)
		sum := sha256.Sum256(file)
		text(t, c, "PUT", "https://"+host+"/up/"+host, bytes.NewReader(file), 201)
		text(t, c, "PUT", "https://"+host+"/up/"+host, io.MultiReader(bytes.NewReader(file)), 204) // chunked
		if stored, _ := os.ReadFile(filepath.Join(root, "up", host)); sha256.Sum256(stored) != sum {
			t.Errorf("%s: %d bytes were stored of %d", host, len(stored), len(file))
		}
		text(t, c, "DELETE", "https://"+host+"/up/"+host, nil, 204)
		req, _ := http.NewRequest("GET", "https://"+host+"/file.bin", nil)
		req.Header.Set("Range", "bytes=1000-1999")
		if p, err := c.Do(req); err != nil || p.StatusCode != 206 || p.ContentLength != 1000 {
			t.Errorf("%s: range: %+v, %v", host, p, err)
		} else {
			p.Body.Close()
		}
	}
}

// text asks and returns the body.
func text(t testing.TB, c *http.Client, method, url string, body io.Reader, want int) string {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.Do(req)
	if err != nil {
		t.Errorf("%s %s: %v", method, url, err)
		return ""
	}
	defer p.Body.Close()
	b, err := io.ReadAll(p.Body)
	if err != nil || p.StatusCode != want {
		t.Errorf("%s %s: %d, %v; want %d", method, url, p.StatusCode, err, want)
	}
	return string(b)
}

// TestCurl: the client that everybody debugs with.
func TestCurl(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := start(t, `[sites]
"aaaa.test" = "http://%s"`, vm.Addr)
	u.TLS("aaaa.test").Close()
	root := rootFile(t, u)
	secure := []string{"-sS", "--cacert", root, "--resolve", "aaaa.test:" + port(u.HTTPS) + ":" + u.IP}
	url := "https://aaaa.test:" + port(u.HTTPS) + "/x?y=z"
	run := func(args ...string) string {
		t.Helper()
		out, err := rig.Tool(t, "curl", args...)
		if err != nil {
			t.Errorf("curl %v: %v\n%s", args, err, out)
		}
		return out
	}
	wantEcho(t, "curl", run(append(secure, url)...), "X-Forwarded-Proto", "https")
	if out := run(append(secure, "-d", "field=value", url)...); !strings.HasSuffix(out, "\nfield=value") {
		t.Errorf("POST: %q", out)
	}
	large := filepath.Join(t.TempDir(), "large")
	peer.Replace(t, large, bytes.Repeat([]byte("0123456789abcdef"), 1<<16)) // 1 MiB: curl asks Expect: 100-continue
	if out := run(append(secure, "-T", large, url)...); len(out) < 1<<20 {
		t.Errorf("PUT of 1 MiB came back as %d bytes", len(out))
	}
	if out := run(append(secure, "--http1.0", url)...); !strings.HasPrefix(out, "GET /x?y=z\n") {
		t.Errorf("HTTP/1.0: %q", out)
	}
	out := run("-sS", "-L", "--cacert", root, "--resolve", "aaaa.test:"+port(u.HTTPS)+":"+u.IP, "--resolve", "aaaa.test:"+port(u.HTTP)+":"+u.IP,
		"-w", "%{num_redirects}", "http://aaaa.test:"+port(u.HTTP)+"/x?y=z")
	if !strings.HasPrefix(out, "GET /x?y=z\n") || !strings.HasSuffix(out, "1") {
		t.Errorf("following the redirect: %q", out)
	}
	if out, err := rig.Tool(t, "curl", "-sS", "-k", "--resolve", "none.test:"+port(u.HTTPS)+":"+u.IP, "https://none.test:"+port(u.HTTPS)+"/"); err == nil {
		t.Errorf("an unknown name was served: %q", out)
	}
}

// rootFile is the path of the local CA's root as usher certs shows it.
func rootFile(t testing.TB, u *rig.Usher) string {
	t.Helper()
	out, errs, code := u.CLI("certs")
	if code != 0 {
		t.Fatalf("usher certs: %d %s", code, errs)
	}
	for _, word := range strings.FieldsFunc(out, func(r rune) bool { return strings.ContainsRune(" \t\n\r\"'(),", r) }) {
		if strings.HasPrefix(word, u.State) {
			if _, err := os.Stat(word); err == nil {
				return word
			}
		}
	}
	t.Fatalf("usher certs shows no path of the local root:\n%s", out)
	return ""
}

// TestOpenSSL: s_client verifies what it is shown, on every version that is
// left, and is refused on those that are not.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites]
"aaaa.test" = "http://%s"`, vm.Addr)
	u.TLS("aaaa.test").Close()
	root := rootFile(t, u)
	run := func(args ...string) string {
		out, _ := rig.Tool(t, "sh", append([]string{"-c", `printf 'GET / HTTP/1.1\r\nHost: aaaa.test\r\nConnection: close\r\n\r\n' | "$@"`, "sh",
			"openssl", "s_client", "-connect", u.HTTPS, "-CAfile", root, "-verify_return_error", "-ign_eof"}, args...)...)
		return out
	}
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		out := run("-servername", "aaaa.test", "-verify_hostname", "aaaa.test", version)
		if !strings.Contains(out, "Verify return code: 0 (ok)") || !strings.Contains(out, "HTTP/1.1 200 OK") {
			t.Errorf("%s: %s", version, out)
		}
	}
	for _, version := range []string{"-tls1", "-tls1_1"} {
		if out := run("-servername", "aaaa.test", version, "-cipher", "ALL:@SECLEVEL=0"); strings.Contains(out, "HTTP/1.1 200 OK") {
			t.Errorf("%s was served", version)
		}
	}
	if out := run("-servername", "none.test"); !strings.Contains(out, "unrecognized name") {
		t.Errorf("unknown name: %s", out)
	}
	if out := run("-noservername"); !strings.Contains(out, "unrecognized name") {
		t.Errorf("no name: %s", out)
	}
}
