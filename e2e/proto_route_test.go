package e2e

import (
	"crypto/tls"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
)

// TestProtoRouting: the same site, 404 or 421 for the same host, in every
// protocol.
func TestProtoRouting(t *testing.T) {
	t.Parallel()
	vm, api, secret := peer.Listen(t, peer.Name("vm")), peer.Listen(t, peer.Name("api")), peer.Listen(t, peer.Silent)
	ca, dir := peer.NewCA(t), t.TempDir()
	cert, key := ca.Write(dir, "both", "one.test", "two.test")
	u := start(t, `[sites]
"bbbb.test" = "http://%[1]s"
"pass.test" = "passthrough://%[2]s"
[sites."one.test"]
to = "http://%[1]s"
certificate = { cert = %[3]q, key = %[4]q }
[sites."two.test"]
to = "http://%[1]s"
certificate = { cert = %[3]q, key = %[4]q }
[sites."aaaa.test"]
to = "http://%[1]s"
[sites."aaaa.test".paths]
"/api/" = "http://%[5]s"`, vm.Addr, secret.Addr, cert, key, api.Addr)
	u.TLS("aaaa.test").Close()
	u.TLS("bbbb.test").Close()
	each(t, u, func(t *testing.T, e edge) {
		for _, c := range []struct {
			sni, host, path string
			status          int
			body            string
		}{
			{"aaaa.test", "aaaa.test", "/", 200, "vm"},
			{"aaaa.test", "AAAA.Test", "/", 200, "vm"},
			{"aaaa.test", "aaaa.test.:8443", "/x?y", 200, "vm"},
			{"aaaa.test", "aaaa.test", "/api/x", 200, "api"},
			{"aaaa.test", "aaaa.test", "/api", 200, "vm"},
			{"aaaa.test", "aaaa.test", "/%2Fapi/", 200, "vm"},
			{"aaaa.test", "aaaa.test", "/%61pi/x", 400, ""},
			{"aaaa.test", "aaaa.test", "/x/../api/y", 400, ""},
			{"aaaa.test", "none.test", "/", 404, ""},
			{"aaaa.test", "127.0.0.1", "/", 404, ""},
			{"aaaa.test", "bbbb.test", "/", 421, ""},
			{"aaaa.test", "pass.test", "/", 421, ""},
			{"one.test", "two.test", "/", 200, "vm"},
			{"one.test", "aaaa.test", "/", 421, ""},
		} {
			conn := e.rawWith(&tls.Config{ServerName: c.sni, InsecureSkipVerify: true})
			a := e.ask(conn, protopeer.Request{Authority: c.host, Path: c.path}, "")
			if a.Status != c.status || c.body != "" && string(a.Body) != c.body || a.Fields.Get("Location") != "" {
				t.Errorf("SNI %s, %s%s: %d %.40q", c.sni, c.host, c.path, a.Status, a.Body)
			}
			conn.Close()
		}
	})
	if secret.Accepted() > 0 {
		t.Error("the passthrough VM was reached by a request")
	}
}

// TestProtoOneConnection: hosts and refusals do not spoil a connection that
// carries others.
func TestProtoOneConnection(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	multiplexed(t, terminated(t, vm), func(t *testing.T, e edge) {
		c := e.raw("aaaa.test")
		for _, r := range []struct {
			host, path string
			want       int
		}{{"none.test", "/", 404}, {"aaaa.test", "/", 200}, {"aaaa.test", "/x/%2e%2e/y", 400}, {"aaaa.test", "/", 200}} {
			if a := e.ask(c, protopeer.Request{Authority: r.host, Path: r.path}, ""); r.want != 400 && a.Status != r.want {
				t.Errorf("%s%s: %d", r.host, r.path, a.Status)
			}
		}
	})
}

// TestProtoRedirects: a site that points elsewhere, on TLS.
func TestProtoRedirects(t *testing.T) {
	t.Parallel()
	u := start(t, `[sites]
"www.test" = "redirect://elsewhere.example:8443"
"aaaa.test" = "whoami://"`)
	each(t, u, func(t *testing.T, e edge) {
		c := e.raw("www.test")
		a := e.ask(c, protopeer.Request{Authority: "www.test", Path: "/a/b?c=d"}, "")
		if a.Status != 308 || a.Fields.Get("Location") != "https://elsewhere.example:8443/a/b?c=d" {
			t.Errorf("%d to %q", a.Status, a.Fields.Get("Location"))
		}
		if a := e.get("/hello?x=y", protopeer.Field{Name: "x-custom", Value: "seen"}); a.Status != 200 || !strings.Contains(string(a.Body), "seen") {
			t.Errorf("whoami: %d %q", a.Status, a.Body)
		}
	})
}

// TestProtoAltSvc: HTTP/1.1 and 2 say where HTTP/3 is, unless it is off; the
// VM's word is not passed on.
func TestProtoAltSvc(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nAlt-Svc: h3=\":1\"; ma=9\r\n\r\nok"))
	on := terminated(t, vm)
	off := builds.Start(t, rig.Config{Listen: "http3 = false", Body: `[sites]
"aaaa.test" = "http://` + vm.Addr + `"`})
	each(t, on, func(t *testing.T, e edge) {
		v := e.get("/").Fields.Values("Alt-Svc")
		if e.Proto != protopeer.H3 && (len(v) != 1 || !strings.Contains(v[0], `h3=":`+port(on.HTTPS)+`"`)) {
			t.Errorf("%q", v)
		}
		if strings.Contains(strings.Join(v, ""), `":1"`) {
			t.Error("the VM's was passed on")
		}
	})
	for _, p := range []protopeer.Proto{protopeer.H1, protopeer.H2} {
		if v := (edge{off, p, t}).get("/").Fields.Values("Alt-Svc"); len(v) > 0 {
			t.Errorf("%s, switched off: %q", p, v)
		}
	}
	conf := (edge{off, protopeer.H1, t}).conf("aaaa.test")
	if _, err := protopeer.DialQUIC(off.HTTPS, conf, 1<<20); err == nil {
		t.Error("HTTP/3 is answered although it is off")
	}
}

// TestProtoUnknownName: a handshake for a name that is not a terminated site
// is refused at once, over UDP too, so that a browser falls back to TCP.
func TestProtoUnknownName(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "http://%[1]s"
"pass.test" = "passthrough://%[1]s"`, vm.Addr)
	u.TLS("aaaa.test").Close()
	for _, name := range []string{"none.test", "pass.test", ""} {
		begin := make(chan error, 1)
		go func() {
			c, err := protopeer.DialQUIC(u.HTTPS, &tls.Config{ServerName: name, InsecureSkipVerify: true}, 1<<20)
			if err == nil {
				c.CloseWithError(0, "")
			}
			begin <- err
		}()
		if err := soon(t, begin); err == nil || !strings.Contains(err.Error(), "unrecognized") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
