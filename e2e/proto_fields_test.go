package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
)

// soon is what a channel brings within two seconds.
func soon[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(2 * time.Second):
		t.Error("nothing for two seconds")
	}
	return v
}

// TestProtoForwarded: what a client says of itself is dropped, what usher
// knows is said.
func TestProtoForwarded(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := builds.Start(t, rig.Config{Listen: "public_https_port = 443", Body: `[sites]
"aaaa.test" = "http://` + vm.Addr + `"`})
	each(t, u, func(t *testing.T, e edge) {
		var fields protopeer.Fields
		for _, name := range spoofed {
			fields = append(fields, protopeer.Field{Name: strings.ToLower(name), Value: "203.0.113.99"})
		}
		e.ask(e.raw("aaaa.test"), protopeer.Request{Authority: "aaaa.test:8080", Fields: fields}, "")
		wantForwarded(t, newest(vm), map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Real-IP": "127.0.0.1", "X-Forwarded-Proto": "https",
			"X-Forwarded-Host": "aaaa.test:8080", "X-Forwarded-Port": "443", "Host": "aaaa.test:8080",
		})
	})
}

// TestProtoHopByHop: fields of one hop stay there. HTTP/2 and 3 have none, and
// a VM's become none.
func TestProtoHopByHop(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: Basic\r\n"+
		"Connection: X-Private, keep-alive\r\nX-Private: yes\r\nX-Public: yes\r\nUpgrade: h2c\r\n\r\nok"))
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		fields := protopeer.Fields{{Name: "te", Value: "trailers"}, {Name: "x-other", Value: "yes"}}
		if e.Proto == protopeer.H1 {
			fields = append(fields, protopeer.Fields{{Name: "Connection", Value: "X-Mine, TE, x-real-ip"}, {Name: "X-Mine", Value: "yes"},
				{Name: "Keep-Alive", Value: "3"}, {Name: "Proxy-Connection", Value: "close"}, {Name: "HTTP2-Settings", Value: "AAMAAABkAAQAAP__"}}...)
		}
		a := e.get("/", append(fields, protopeer.Field{Name: "proxy-authorization", Value: "Basic eA=="})...)
		q := newest(vm)
		for _, name := range []string{"X-Mine", "Keep-Alive", "Proxy-Connection", "HTTP2-Settings", "Proxy-Authorization"} {
			if q.Header.Has(name) {
				t.Errorf("%s was passed on", name)
			}
		}
		if !q.Header.Has("X-Other") || !q.Header.Has("X-Real-IP") {
			t.Errorf("the VM got %v", q.Header)
		}
		for _, name := range []string{"Keep-Alive", "Proxy-Authenticate", "X-Private", "Upgrade", "Transfer-Encoding"} {
			if len(a.Fields.Values(name)) > 0 {
				t.Errorf("%s came back", name)
			}
		}
		if a.Fields.Get("X-Public") != "yes" || e.Proto != protopeer.H1 && len(a.Fields.Values("Connection")) > 0 {
			t.Errorf("the client got %v", a.Fields)
		}
	})
}

// TestProtoCookies: pieces that HTTP/2 and 3 allow are one field for a VM.
func TestProtoCookies(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n"))
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		cookies := protopeer.Fields{{Name: "cookie", Value: "a=1; b=2; c=3"}}
		if e.Proto != protopeer.H1 {
			cookies = protopeer.Fields{{Name: "cookie", Value: "a=1"}, {Name: "accept", Value: "x"}, {Name: "cookie", Value: "b=2"}, {Name: "cookie", Value: "c=3"}}
		}
		a := e.get("/", cookies...)
		if got := newest(vm).Header.Values("Cookie"); len(got) != 1 || got[0] != "a=1; b=2; c=3" {
			t.Errorf("the VM got %q", got)
		}
		if got := a.Fields.Values("Set-Cookie"); len(got) != 2 || got[1] != "b=2" {
			t.Errorf("the client got %q", got)
		}
	})
}

// TestProtoLimits: 431 and 414 for what is over a limit, and not below.
func TestProtoLimits(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	many := func(n int) (f protopeer.Fields) {
		for i := range n {
			f = append(f, protopeer.Field{Name: fmt.Sprintf("x-%d", i), Value: "y"})
		}
		return f
	}
	long := func(n int) protopeer.Fields { return protopeer.Fields{{Name: "x", Value: strings.Repeat("y", n)}} }
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		for name, c := range map[string]struct {
			path   string
			fields protopeer.Fields
			want   int
		}{
			"190 fields":         {"/", many(190), 200},
			"201 fields":         {"/", many(201), 431},
			"60,000 bytes":       {"/", long(60_000), 200},
			"66,000 bytes":       {"/", long(66_000), 431},
			"path of 16,000":     {"/" + strings.Repeat("a", 15_999), nil, 200},
			"path over 16 KiB":   {"/" + strings.Repeat("a", 16<<10), nil, 414},
			"query over 16 KiB":  {"/?" + strings.Repeat("a", 16<<10), nil, 414},
			"cookies are fields": {"/", many(1), 200},
		} {
			if a := e.get(c.path, c.fields...); a.Status != c.want {
				t.Errorf("%s: %d, want %d", name, a.Status, c.want)
			}
		}
	})
}

// TestProtoConnect: 405, whatever is asked for.
func TestProtoConnect(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		for _, target := range []string{"aaaa.test:443", "127.0.0.1:22", vm.Addr} {
			c := e.raw("aaaa.test")
			a := e.ask(c, protopeer.Request{Method: "CONNECT", Authority: target}, "")
			if a.Status != 405 {
				t.Errorf("%s: %d", target, a.Status)
			}
			c.Close()
		}
	})
	if len(vm.Requests()) > 0 {
		t.Error("the VM heard of it")
	}
}

// malformed is field sections that are no request, or would be another one in
// HTTP/1.1 (RFC 9113 section 8, RFC 9114 section 4).
func malformed() map[string]protopeer.Fields {
	get := func(more ...protopeer.Field) protopeer.Fields {
		return append(protopeer.Fields{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
			{Name: ":authority", Value: "aaaa.test"}, {Name: ":path", Value: "/"}}, more...)
	}
	with := func(i int, value string) protopeer.Fields {
		f := get()
		f[i].Value = value
		return f
	}
	without := func(i int) protopeer.Fields {
		f := get()
		return append(f[:i:i], f[i+1:]...)
	}
	return map[string]protopeer.Fields{
		"host differs":             get(protopeer.Field{Name: "host", Value: "bbbb.test"}),
		"host differs in port":     get(protopeer.Field{Name: "host", Value: "aaaa.test:1"}),
		"two hosts":                get(protopeer.Fields{{Name: "host", Value: "aaaa.test"}, {Name: "host", Value: "bbbb.test"}}...),
		"no authority":             without(2),
		"empty authority":          with(2, ""),
		"user in authority":        with(2, "user@aaaa.test"),
		"no method":                without(0),
		"no scheme":                without(1),
		"no path":                  without(3),
		"empty path":               with(3, ""),
		"relative path":            with(3, "x"),
		"absolute path":            with(3, "https://aaaa.test/"),
		"space in the path":        with(3, "/ HTTP/1.1\r\nHost: evil"),
		"fragment":                 with(3, "/#x"),
		"line in the method":       with(0, "GET / HTTP/1.1\r\nX: "),
		"line in the authority":    with(2, "aaaa.test\r\nx: y"),
		"two paths":                get(protopeer.Field{Name: ":path", Value: "/other"}),
		"two methods":              get(protopeer.Field{Name: ":method", Value: "POST"}),
		"unknown pseudo-field":     get(protopeer.Field{Name: ":x", Value: "y"}),
		"status in a request":      get(protopeer.Field{Name: ":status", Value: "200"}),
		"pseudo-field at the end":  {{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":authority", Value: "aaaa.test"}, {Name: "x", Value: "y"}, {Name: ":path", Value: "/"}},
		"protocol without CONNECT": get(protopeer.Field{Name: ":protocol", Value: "websocket"}),
		"upper case":               get(protopeer.Field{Name: "X-Upper", Value: "y"}),
		"colon in a name":          get(protopeer.Field{Name: "x:y", Value: "y"}),
		"line in a name":           get(protopeer.Field{Name: "x\r\ny", Value: "y"}),
		"empty name":               get(protopeer.Field{Name: "", Value: "y"}),
		"space in a name":          get(protopeer.Field{Name: "x y", Value: "y"}),
		"CR LF in a value":         get(protopeer.Field{Name: "x", Value: "y\r\nz: 1"}),
		"LF in a value":            get(protopeer.Field{Name: "x", Value: "y\nz: 1"}),
		"NUL in a value":           get(protopeer.Field{Name: "x", Value: "y\x00"}),
		"transfer-encoding":        get(protopeer.Field{Name: "transfer-encoding", Value: "chunked"}),
		"connection":               get(protopeer.Field{Name: "connection", Value: "close"}),
		"keep-alive":               get(protopeer.Field{Name: "keep-alive", Value: "5"}),
		"proxy-connection":         get(protopeer.Field{Name: "proxy-connection", Value: "close"}),
		"upgrade":                  get(protopeer.Field{Name: "upgrade", Value: "h2c"}),
		"te":                       get(protopeer.Field{Name: "te", Value: "gzip"}),
		"length without body":      get(protopeer.Field{Name: "content-length", Value: "5"}),
		"two lengths":              get(protopeer.Fields{{Name: "content-length", Value: "0"}, {Name: "content-length", Value: "0"}}...),
		"signed length":            get(protopeer.Field{Name: "content-length", Value: "+0"}),
		"list of lengths":          get(protopeer.Field{Name: "content-length", Value: "0, 0"}),
		"huge length":              get(protopeer.Field{Name: "content-length", Value: "99999999999999999999"}),
	}
}

// TestProtoMalformed: what is no request, or would smuggle one, ends its
// stream or gets a 400, and is never forwarded.
func TestProtoMalformed(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	multiplexed(t, terminated(t, vm), func(t *testing.T, e edge) {
		before := len(vm.Requests())
		c := e.raw("aaaa.test")
		for name, fields := range malformed() {
			a, err := protopeer.Ask(c, protopeer.Request{Raw: fields}, "")
			if err == nil && a.Status/100 != 4 {
				t.Errorf("%s: %d %.60q", name, a.Status, a.Body)
			}
			if a := e.get("/"); a.Status != 200 {
				t.Errorf("after %s: %d", name, a.Status)
			}
			before++
			select {
			case <-c.Ended():
				c = e.raw("aaaa.test")
			default:
			}
		}
		for name, body := range map[string]string{"longer": "hello!", "shorter": "hell"} {
			length := protopeer.Field{Name: "content-length", Value: "5"}
			a, err := protopeer.Ask(e.raw("aaaa.test"), protopeer.Request{Method: "POST", Authority: "aaaa.test", Fields: protopeer.Fields{length}}, body)
			if err == nil && a.Status/100 != 4 {
				t.Errorf("body %s than its length: %d %.60q", name, a.Status, a.Body)
			}
		}
		if n := len(vm.Requests()) - before; n > 0 {
			t.Errorf("%d requests were forwarded", n)
		}
	})
	for _, f := range vm.Faults() {
		t.Errorf("the VM saw %v", f)
	}
}

// TestProtoMismatch: an authority and a Host that differ are refused.
func TestProtoMismatch(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		c, before := e.raw("aaaa.test"), len(vm.Requests())
		r := protopeer.Request{Authority: "aaaa.test", Fields: protopeer.Fields{{Name: "host", Value: "bbbb.test"}}}
		if a, err := protopeer.Ask(c, r, ""); err == nil && a.Status != 400 {
			t.Errorf("another host: %d", a.Status)
		}
		if n := len(vm.Requests()); n > before {
			t.Errorf("the VM got %v", newest(vm).Header)
		}
		if e.Proto == protopeer.H1 {
			return
		}
		r.Fields[0].Value = "aaaa.test" // says the same
		if a := e.ask(e.raw("aaaa.test"), r, ""); a.Status != 200 {
			t.Errorf("the same host: %d", a.Status)
		}
	})
}
