package e2e

import (
	"crypto/tls"
	"regexp"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// spoofed is every way of claiming to be somebody else.
var spoofed = []string{
	"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
	"X-Forwarded-Server", "X-Forwarded-Anything", "Forwarded", "X-Real-IP",
	"X_Forwarded_For", "X-Forwarded_For", "X_Forwarded-For", "x_forwarded_proto", "X_REAL_IP", "X-Real_IP", "x-forwarded_host",
}

// TestForwardedFields: what a client says of itself is dropped, what usher
// knows is said.
func TestForwardedFields(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := builds.Start(t, rig.Config{Listen: "public_https_port = 443", Body: `[sites."aaaa.test"]
to = "http://` + vm.Addr + `"
http = "forward"`})
	var fields []string
	for _, name := range spoofed {
		fields = append(fields, name+": 203.0.113.99")
	}
	plain := peer.DialFrom(t, "127.0.0.44", u.HTTP)
	plain.Get("aaaa.test:8080", "/", fields...)
	wantForwarded(t, vm.Wait(1), map[string]string{
		"X-Forwarded-For": "127.0.0.44", "X-Real-IP": "127.0.0.44", "X-Forwarded-Proto": "http",
		"X-Forwarded-Host": "aaaa.test:8080", "X-Forwarded-Port": port(u.HTTP), "Host": "aaaa.test:8080",
	})
	u.TLS("aaaa.test").Get("aaaa.test", "/", fields...)
	wantForwarded(t, vm.Wait(2), map[string]string{
		"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Forwarded-Proto": "https",
		"X-Forwarded-Host": "aaaa.test", "X-Forwarded-Port": "443", "Host": "aaaa.test",
	})
}

func wantForwarded(t *testing.T, q *strict.Request, want map[string]string) {
	t.Helper()
	for _, f := range q.Header {
		if strings.Contains(f.Value, "203.0.113.99") {
			t.Errorf("a forged field arrived: %s: %s", f.Name, f.Value)
		}
	}
	for name, value := range want {
		if got := q.Header.Values(name); len(got) != 1 || got[0] != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
	if id := q.Header.Values("X-Request-Id"); len(id) != 1 || id[0] == "" {
		t.Errorf("X-Request-Id: %q", id)
	}
	if via := q.Header.Get("Via"); !regexp.MustCompile(`^1\.1 usher-\S+$`).MatchString(via) {
		t.Errorf("Via: %q", via)
	}
}

// TestTrustedProxy: a listed peer's word is believed and appended to; the
// client is the rightmost address that is nobody's proxy.
func TestTrustedProxy(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := builds.Start(t, rig.Config{Listen: `trusted_proxies = ["127.0.0.7/32", "198.51.100.0/24"]`, Body: `[sites."aaaa.test"]
to = "http://` + vm.Addr + `"
http = "forward"`})
	c := peer.DialFrom(t, "127.0.0.7", u.HTTP)
	c.Get("aaaa.test", "/one", "X-Forwarded-For: 203.0.113.66, 203.0.113.5, 198.51.100.9", "X-Forwarded-Proto: https")
	q := vm.Wait(1)
	if got := strings.Join(q.Header.Values("X-Forwarded-For"), ", "); got != "203.0.113.66, 203.0.113.5, 198.51.100.9, 127.0.0.7" {
		t.Errorf("X-Forwarded-For: %q", got)
	}
	if got := q.Header.Get("X-Forwarded-Proto"); got != "https" {
		t.Errorf("X-Forwarded-Proto: %q", got)
	}
	l := u.Line(t, "the request", func(l rig.Line) bool { return l.Text("path") == "/one" })
	if l.Text("client") != "203.0.113.5" {
		t.Errorf("the log's client is %q", l.Text("client"))
	}
	peer.DialFrom(t, "127.0.0.8", u.HTTP).Get("aaaa.test", "/two", "X-Forwarded-For: 203.0.113.66")
	if got := vm.Wait(2).Header.Get("X-Forwarded-For"); got != "127.0.0.8" {
		t.Errorf("from an unlisted peer: %q", got)
	}
}

// TestHopByHop: fields of one hop stay there, and Connection cannot take ours
// away.
func TestHopByHop(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAlt-Svc: h3=\":443\"\r\nalt-svc: clear\r\n"+
		"Keep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\nConnection: X-Private, keep-alive\r\nX-Private: yes\r\nX-Public: yes\r\n\r\nok"))
	u := forwarding(t, vm)
	p := u.Dial().Get("aaaa.test", "/", "Connection: X-Mine, x-forwarded-for, X-REAL-IP, Via, host, X-Request-Id, X-Forwarded-Proto, Upgrade, HTTP2-Settings",
		"X-Mine: yes", "X-Other: yes", "Keep-Alive: 300", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic eA==",
		"TE: gzip", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
	q := vm.Wait(1)
	for _, name := range []string{"X-Mine", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Upgrade", "HTTP2-Settings"} {
		if q.Header.Has(name) {
			t.Errorf("%s was passed on", name)
		}
	}
	if te := q.Header.Get("TE"); te != "" && te != "trailers" {
		t.Errorf("TE: %s", te)
	}
	for _, name := range []string{"X-Other", "X-Forwarded-For", "X-Real-IP", "Via", "X-Request-Id", "X-Forwarded-Proto"} {
		if !q.Header.Has(name) {
			t.Errorf("%s did not arrive", name)
		}
	}
	for _, name := range []string{"Alt-Svc", "Keep-Alive", "Proxy-Authenticate", "X-Private"} {
		if p.Header.Has(name) {
			t.Errorf("%s came back", name)
		}
	}
	if p.Header.Get("X-Public") != "yes" {
		t.Error("X-Public did not come back")
	}
}

// TestLoop: a request that comes round is stopped, by its Via and for real.
func TestLoop(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := builds.Start(t, rig.Config{Body: `[sites."aaaa.test"]
to = "http://` + vm.Addr + `"
http = "forward"`})
	u.Dial().Get("aaaa.test", "/")
	via := vm.Wait(1).Header.Get("Via")
	for _, v := range []string{via, "1.0 fred, " + via, via + ", 1.1 other (comment)"} {
		if s := u.Dial().Get("aaaa.test", "/", "Via: "+v).Status; s != 508 {
			t.Errorf("Via %q: %d", v, s)
		}
	}
	u.Dial().Get("aaaa.test", "/", "Via: 1.1 usher-other")
	if got := strings.Join(vm.Wait(2).Header.Values("Via"), ", "); got != "1.1 usher-other, "+via {
		t.Errorf("Via of another edge became %q", got)
	}

	u.Reload(`[sites."aaaa.test"]
to = "http://` + u.HTTP + `"
http = "forward"`)
	if s := u.Dial().Get("aaaa.test", "/").Status; s != 508 {
		t.Errorf("a real loop: %d", s)
	}
}

// TestIdentityIsPrivate: a connection to the VM that speaks for one client is
// never another's.
func TestIdentityIsPrivate(t *testing.T) {
	t.Parallel()
	proxied := peer.Listen(t, func(l *peer.Link) {
		src, _ := wantProxyHeader(t, l.R, "v1")
		peer.Each(func(l *peer.Link, _ *strict.Request) bool { return l.Say(peer.Text(src)) })(l)
	})
	ntlm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: NTLM\r\nX-Link: " + string(rune('0'+l.N)) + "\r\nContent-Length: 0\r\n\r\n")
	}))
	u := start(t, `[sites."prox.test"]
to = "http://%s"
http = "forward"
proxy_protocol = "v1"
[sites."ntlm.test"]
to = "http://%s"
http = "forward"`, proxied.Addr, ntlm.Addr)
	for range 3 {
		c := u.Dial()
		for range 2 {
			if got := string(c.Get("prox.test", "/").Body); got != c.LocalAddr().String() {
				t.Errorf("the VM took %s for %s", c.LocalAddr(), got)
			}
		}
	}
	links := map[string]int{}
	for range 3 {
		c := u.Dial()
		first, second := c.Get("ntlm.test", "/").Header.Get("X-Link"), c.Get("ntlm.test", "/").Header.Get("X-Link")
		if first != second {
			t.Errorf("one client's handshake went over links %s and %s", first, second)
		}
		links[first]++
	}
	if len(links) != 3 {
		t.Errorf("three clients shared links: %v", links)
	}
}

// TestSecureVM: https towards the VM is verified, by default and by its own
// rules.
func TestSecureVM(t *testing.T) {
	t.Parallel()
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	names := make(chan string, 10)
	conf := ca.Server("good.test", "app.internal")
	conf.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) { names <- h.ServerName; return nil, nil }
	vm := peer.ListenTLS(t, conf, peer.Name("secure"))
	u := start(t, `[timeouts]
hold = "500ms"
[defaults]
http = "forward"
[sites]
"untrusted.test" = "https://%[1]s"
[sites."good.test"]
to = "https://%[1]s"
ca_file = "%[2]s/ca.pem"
[sites."named.test"]
to = "https://%[1]s"
ca_file = "%[2]s/ca.pem"
server_name = "app.internal"
[sites."wrong.test"]
to = "https://%[1]s"
ca_file = "%[2]s/ca.pem"
[sites."insecure.test"]
to = "https://%[1]s"
insecure = true`, vm.Addr, dir)
	for host, want := range map[string]struct {
		status int
		sni    string
	}{
		"good.test": {200, "good.test"}, "named.test": {200, "app.internal"}, "insecure.test": {200, "insecure.test"},
		"wrong.test": {502, "wrong.test"}, "untrusted.test": {502, "untrusted.test"},
	} {
		p := u.Dial().Get(host, "/")
		if p.Status != want.status {
			t.Errorf("%s: %d %q", host, p.Status, p.Body)
		}
		if sni := <-names; sni != want.sni {
			t.Errorf("%s: the VM was asked for %q", host, sni)
		}
		for len(names) > 0 { // tries after the first
			<-names
		}
	}
}
