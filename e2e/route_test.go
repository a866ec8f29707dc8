package e2e

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestTerminated: one certificate, one VM, keep-alive, on IPv4 and IPv6.
func TestTerminated(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := builds.Start(t, rig.Config{IPv6: true, Body: `[sites]
"aaaa.test" = "http://` + vm.Addr + `"`})
	c := u.TLS("aaaa.test")
	for range 3 {
		echo := string(c.Get("aaaa.test", "/x?y=z").Body)
		wantEcho(t, "IPv4", echo, "X-Forwarded-Proto", "https")
		if !strings.HasPrefix(echo, "GET /x?y=z\n") {
			t.Errorf("the VM got %q", echo)
		}
	}
	six, err := peer.Dial(t, u.HTTPS6).Handshake(&tls.Config{ServerName: "aaaa.test", RootCAs: u.Roots()})
	if err != nil {
		t.Fatal(err)
	}
	wantEcho(t, "IPv6", string(six.Get("aaaa.test", "/").Body), "X-Real-IP", "::1")
	if s := peer.Dial(t, u.HTTP6).Get("aaaa.test", "/").Status; s != 308 {
		t.Errorf("plain HTTP on ::1: %d", s)
	}
	if n := vm.Accepted(); n > 2 {
		t.Errorf("%d connections to the VM for requests in a row", n)
	}
}

// TestUnknownHost: 404 on both ports, never a redirect, never another's page.
func TestUnknownHost(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("secret"))
	u := start(t, `[sites."aaaa.test"]
to = "http://%s"
http = "forward"`, vm.Addr)
	for _, host := range []string{"unknown.example", "x.aaaa.test", "aaaa.test.evil.example", "127.0.0.1", "[::1]", "localhost:80"} {
		for port, c := range map[string]*peer.Client{"plain": u.Dial(), "TLS": u.TLS("aaaa.test")} {
			p := c.Get(host, "/")
			if p.Status != 404 || p.Header.Has("Location") || strings.Contains(string(p.Body), "secret") {
				t.Errorf("%s, host %q: %d %+v %q", port, host, p.Status, p.Header, p.Body)
			}
		}
	}
	if n := len(vm.Requests()); n > 0 {
		t.Errorf("the VM got %d requests", n)
	}
}

// TestHostSpelling: one key for every spelling.
func TestHostSpelling(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("found"))
	u := start(t, `[defaults]
http = "forward"
[sites]
"aaaa.test" = "http://%[1]s"
"bücher.test" = "http://%[1]s"
"my_host.test" = "http://%[1]s"
"*.wild.test" = "http://%[1]s"`, vm.Addr)
	for _, host := range []string{"aaaa.test", "AAAA.test", "aaaa.test.", "aaaa.test:8080", "AAAA.TEST.:1",
		"xn--bcher-kva.test", "my_host.test", "x.wild.test"} {
		if p := u.Dial().Get(host, "/"); string(p.Body) != "found" {
			t.Errorf("host %q: %d %q", host, p.Status, p.Body)
		}
	}
	for _, host := range []string{"wild.test", "a.b.wild.test", "aaaa.test.."} {
		if p := u.Dial().Get(host, "/"); p.Status != 404 && p.Status != 400 {
			t.Errorf("host %q: %d", host, p.Status)
		}
	}
}

// TestOtherHostOnConnection: SNI a, Host b.
func TestOtherHostOnConnection(t *testing.T) {
	t.Parallel()
	vm, secret := peer.Listen(t, peer.Name("vm")), peer.Listen(t, peer.Silent)
	ca, dir := peer.NewCA(t), t.TempDir()
	cert, key := ca.Write(dir, "both", "one.test", "two.test")
	u := start(t, `[sites]
"aaaa.test" = "http://%[1]s"
"bbbb.test" = "http://%[1]s"
"pass.test" = "passthrough://%[2]s"
[sites."one.test"]
to = "http://%[1]s"
certificate = { cert = %[3]q, key = %[4]q }
[sites."two.test"]
to = "http://%[1]s"
certificate = { cert = %[3]q, key = %[4]q }`, vm.Addr, secret.Addr, cert, key)
	ask := func(sni, host string, want int) {
		t.Helper()
		c := u.TLSWith(&tls.Config{ServerName: sni, InsecureSkipVerify: true})
		p := c.Get(host, "/")
		if p.Status != want {
			t.Errorf("SNI %s, host %s: %d, want %d", sni, host, p.Status, want)
		}
		if want == 421 { // and closed in order
			c.WantClosed(2 * time.Second)
		}
	}
	ask("aaaa.test", "aaaa.test", 200)
	ask("aaaa.test", "none.test", 404)
	ask("aaaa.test", "bbbb.test", 421)
	ask("aaaa.test", "pass.test", 421)
	ask("one.test", "two.test", 200)
	ask("one.test", "aaaa.test", 421)
	if secret.Accepted() > 0 {
		t.Error("the passthrough VM was reached by a Host")
	}
}

// TestRedirectToHTTPS: 308 with path and query as they were.
func TestRedirectToHTTPS(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	body := `[sites]
"aaaa.test" = "http://` + vm.Addr + `"
"pass.test" = "passthrough://` + vm.Addr + `"
"*.wild.test" = "http://` + vm.Addr + `"`
	u := builds.Start(t, rig.Config{Body: body})
	port := port(u.HTTPS)
	public := builds.Start(t, rig.Config{Body: body, Listen: "public_https_port = 443"})
	for _, host := range []string{"aaaa.test", "pass.test", "x.wild.test"} {
		for asked, want := range map[*peer.Client]string{
			u.Dial():      "https://" + host + ":" + port,
			public.Dial(): "https://" + host,
		} {
			for _, path := range []string{"/", "/a%20b/../c?q=1&r=%2F", "//x"} {
				p := asked.Get(host+":8080", path)
				if got := p.Header.Get("Location"); p.Status != 308 || got != want+path {
					t.Errorf("%s%s: %d to %q", host, path, p.Status, got)
				}
			}
		}
	}
	c := u.Dial()
	c.Send("POST /x HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 3\r\n\r\nabc" + peer.Get("aaaa.test", "/y"))
	for _, path := range []string{"/x", "/y"} {
		if p := c.Response("POST"); p.Status != 308 || !strings.HasSuffix(p.Header.Get("Location"), path) {
			t.Errorf("%s: %d %q", path, p.Status, p.Header.Get("Location"))
		}
	}
}

// TestPlainHTTPChoices: http = "forward" and "refuse".
func TestPlainHTTPChoices(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites."fwd.test"]
to = "http://%[1]s"
http = "forward"
[sites."no.test"]
to = "http://%[1]s"
http = "refuse"
[sites."pass.test"]
to = "passthrough://%[1]s"
http = "forward"
http_port = %[2]d
[sites."shut.test"]
to = "passthrough://%[1]s"
http = "refuse"`, vm.Addr, rig.Port(vm.Addr))
	for _, host := range []string{"fwd.test", "pass.test"} {
		if p := u.Dial().Get(host, "/"); string(p.Body) != "vm" {
			t.Errorf("%s: %d %q", host, p.Status, p.Body)
		}
	}
	for _, host := range []string{"no.test", "shut.test"} {
		c := u.Dial()
		if p := c.Get(host, "/"); p.Status != 403 {
			t.Errorf("%s: %d", host, p.Status)
		}
		c.WantClosed(2 * time.Second)
	}
}

// TestRedirectSite: a name that only points at another one.
func TestRedirectSite(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "http://%s"
"www.test" = "redirect://aaaa.test"
"away.test" = "redirect://elsewhere.example"
"port.test" = "redirect://elsewhere.example:8443"`, vm.Addr)
	port := port(u.HTTPS)
	for host, want := range map[string]string{
		"www.test":  "https://aaaa.test:" + port,
		"away.test": "https://elsewhere.example",
		"port.test": "https://elsewhere.example:8443",
	} {
		p := u.TLS(host).Get(host, "/a/b?c=d")
		if got := p.Header.Get("Location"); p.Status != 308 || got != want+"/a/b?c=d" {
			t.Errorf("%s: %d to %q, want %q", host, p.Status, got, want)
		}
		if p := u.Dial().Get(host, "/"); p.Status != 308 {
			t.Errorf("%s on port 80: %d", host, p.Status)
		}
	}
}

// TestPaths: the longest prefix on whole segments, the path byte for byte.
func TestPaths(t *testing.T) {
	t.Parallel()
	rest, api, deep := peer.Listen(t, peer.Name("rest")), peer.Listen(t, peer.Name("api")), peer.Listen(t, peer.Name("deep"))
	u := start(t, `[sites."aaaa.test"]
to = "http://%s"
http = "forward"
[sites."aaaa.test".paths]
"/api/" = "http://%s"
"/api/deep" = "http://%s"`, rest.Addr, api.Addr, deep.Addr)
	for path, want := range map[string]string{
		"/": "rest", "/api": "rest", "/apix": "rest", "/api/": "api", "/api/x?y": "api", "/api/deep": "deep",
		"/api/deep/er": "deep", "/api/deeper": "api", "/x/../y": "rest", "/x?/../api/": "rest", "/%2Fapi/": "rest",
		"/API/": "rest", "/x%20y": "rest", "/?api": "rest", "/b;c/d": "rest",
	} {
		p := u.Dial().Get("aaaa.test", path)
		if string(p.Body) != want {
			t.Errorf("%s: %d %q, want %q", path, p.Status, p.Body, want)
		}
	}
	for _, path := range []string{"/%61pi/x", "/x/../api/y", "/api/../x", "/api/%2e%2e/x", "/./api/x", "/api/x/../deep", "/api/d%65ep", "/%2e/api/"} {
		c := u.Dial()
		if p := c.Get("aaaa.test", path); p.Status != 400 {
			t.Errorf("%s: %d %q, want 400", path, p.Status, p.Body)
		}
	}
	seen := map[string]bool{}
	for _, vm := range []*peer.VM{rest, api, deep} {
		for _, q := range vm.Requests() {
			seen[q.Target] = true
		}
	}
	for _, path := range []string{"/api/x?y", "/x/../y", "/%2Fapi/", "/x%20y", "/b;c/d"} {
		if !seen[path] {
			t.Errorf("%s did not arrive byte for byte: %v", path, seen)
		}
	}
}

// TestNamedVMs: [vms] gives machines names, short and long.
func TestNamedVMs(t *testing.T) {
	t.Parallel()
	vm, local := peer.ListenAt(t, "127.0.0.9:0", peer.Name("vm")), peer.Listen(t, peer.Name("local"))
	port := port(vm.Addr)
	u := start(t, `[defaults]
http = "forward"
[vms]
web1 = "127.0.0.9"
web2 = { address = "127.0.0.9" }
[sites]
"one.test" = "http://web1:%[1]s"
"two.test" = "web2:%[1]s"
"name.test" = "http://localhost:%[2]d"`, port, rig.Port(local.Addr))
	for host, want := range map[string]string{"one.test": "vm", "two.test": "vm", "name.test": "local"} {
		if p := u.Dial().Get(host, "/"); string(p.Body) != want {
			t.Errorf("%s: %d %q", host, p.Status, p.Body)
		}
	}
}

// TestWhoami is the answer without a VM.
func TestWhoami(t *testing.T) {
	t.Parallel()
	u := start(t, `[sites]
"test.localhost" = "whoami://"`)
	p := u.TLS("test.localhost").Get("test.localhost", "/hello?x=y", "X-Custom: seen")
	body := string(p.Body)
	for _, want := range []string{"/hello?x=y", "test.localhost", "seen", "127.0.0.1"} {
		if p.Status != 200 || !strings.Contains(body, want) {
			t.Errorf("whoami: %d, no %q in %q", p.Status, want, body)
		}
	}
}
