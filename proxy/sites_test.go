package proxy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"usher/proxy/h1"
	"usher/proxy/message"
	"usher/proxy/socket"
	"usher/proxy/tunnel"
	"usher/proxy/upstream"
	"usher/router"
	"usher/telemetry"
)

// oneCertificate shows the same certificate to everybody.
type oneCertificate struct {
	cert  *tls.Certificate
	token string // of a challenge that is ours
}

func newCertificate(t *testing.T, names ...string) *oneCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: names, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &oneCertificate{cert: &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}}
}

func (c *oneCertificate) ServerConfig() *tls.Config {
	return &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if !c.Has(h.ServerName) {
			return nil, fmt.Errorf("none for %q", h.ServerName)
		}
		return c.cert, nil
	}}
}
func (c *oneCertificate) ChallengeConfig() *tls.Config { return c.ServerConfig() }
func (c *oneCertificate) HTTPChallenge(host, token string) (string, bool) {
	if token == "panic" {
		panic("a fault of our own")
	}
	return host + "." + token, token == c.token
}
func (c *oneCertificate) Has(host string) bool { return c.cert.Leaf.VerifyHostname(host) == nil }
func (c *oneCertificate) Covers(_ string, _ netip.Addr, host string) bool {
	return c.cert.Leaf.VerifyHostname(host) == nil
}

// gate is a proxy with a plain and a TLS listener.
type gate struct {
	t             *testing.T
	proxy         *Proxy
	certs         *oneCertificate
	metrics       *telemetry.Metrics
	plain, secure string
	log           string
	flushed       func() // ends everything, so that the log is complete
}

func newGate(t *testing.T, certs *oneCertificate, change func(*Snapshot, map[string]*Site, *upstream.Plan)) *gate {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	t.Cleanup(group.Wait)
	loop, err := socket.NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{t: t, certs: certs, log: filepath.Join(t.TempDir(), "access.log")}
	log, err := telemetry.Open(g.log, telemetry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g.metrics = telemetry.NewMetrics("test", log)
	g.proxy = New(Options{Certificates: certs, Tunnels: tunnel.New(loop), Access: log, Metrics: g.metrics, Log: zerolog.Nop()})
	plan := upstream.NewSet(upstream.Dialer{}).Plan()
	sites := map[string]*Site{}
	limits := message.Timeouts{RequestBody: time.Minute, ResponseWrite: time.Minute}
	snap := &Snapshot{
		Generation: 1, PublicHTTPSPort: 8443,
		Timeouts: Timeouts{ClientHello: 10 * time.Second, Handshake: 10 * time.Second},
		H1:       &h1.Config{RequestHead: time.Minute, KeepAlive: time.Minute, DrainGrace: time.Millisecond, Timeouts: limits},
	}
	change(snap, sites, plan)
	for host, s := range sites {
		s.Host, s.Counters = host, g.metrics.SiteFor(host)
	}
	snap.Sites = router.NewTable(sites)
	snap.Pools, _ = plan.Done()
	g.proxy.Publish(snap)
	group.Go(func() { loop.Run(ctx) })
	listen := func(serve func(context.Context, *socket.Socket)) string {
		l, err := socket.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l.UseLoop(loop)
		group.Go(func() {
			for {
				s, err := l.Accept()
				if err != nil {
					return
				}
				group.Go(func() { serve(ctx, s) })
			}
		})
		t.Cleanup(func() { l.Close() })
		return l.Addr().String()
	}
	g.plain, g.secure = listen(g.proxy.ServePlain), listen(g.proxy.ServeTLS)
	logging, stopLog := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() { log.Run(logging) })
	g.flushed = sync.OnceFunc(func() {
		g.proxy.Drain()
		g.proxy.Abort("the test ends")
		cancel()
		stopLog()
		writer.Wait()
	})
	t.Cleanup(func() {
		g.flushed()
		snap.Pools.Each((*upstream.Pool).Retire)
	})
	return g
}

// lines is the access log, once nothing more comes.
func (g *gate) lines() string {
	g.flushed()
	b, err := os.ReadFile(g.log)
	if err != nil {
		g.t.Fatal(err)
	}
	return string(b)
}

// echo is a VM that answers with the request as it saw it.
func echo(t *testing.T) upstream.Address {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Alt-Svc", `h3=":443"`)
		fmt.Fprintf(w, "%s %s\nHost: %s\n", r.Method, r.RequestURI, r.Host)
		r.Header.Write(w)
	}))
	t.Cleanup(s.Close)
	return address(s.Listener.Addr())
}

func address(a net.Addr) upstream.Address {
	ap := netip.MustParseAddrPort(a.String())
	return upstream.Address{Host: ap.Addr().String(), Port: ap.Port()}
}

func poolTo(t *testing.T, plan *upstream.Plan, a upstream.Address) *upstream.Pool {
	t.Helper()
	p, err := plan.Pool(upstream.Spec{Addresses: []upstream.Address{a}, Connect: time.Second, ResponseHead: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// ask sends one request and returns the response with its body read.
func (g *gate) ask(c net.Conn, request string) (*http.Response, string) {
	g.t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, request)
	method, _, _ := strings.Cut(request, " ")
	r, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	if err != nil {
		g.t.Fatalf("%q: %v", request, err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatalf("%q: %v", request, err)
	}
	return r, string(body)
}

func (g *gate) dial() net.Conn {
	g.t.Helper()
	c, err := net.Dial("tcp", g.plain)
	if err != nil {
		g.t.Fatal(err)
	}
	return c
}

func (g *gate) dialTLS(name string) (net.Conn, error) {
	return tls.Dial("tcp", g.secure, &tls.Config{ServerName: name, InsecureSkipVerify: true})
}

// get asks for a path of a host, over TLS when there is a server name.
func (g *gate) get(name, host, path string, fields ...string) (*http.Response, string) {
	g.t.Helper()
	c := g.dial
	if name != "" {
		c = func() net.Conn {
			conn, err := g.dialTLS(name)
			if err != nil {
				g.t.Fatalf("%s: %v", name, err)
			}
			return conn
		}
	}
	head := append([]string{"GET " + path + " HTTP/1.1", "Host: " + host}, fields...)
	return g.ask(c(), strings.Join(head, "\r\n")+"\r\n\r\n")
}

func TestMisdirectedRequests(t *testing.T) {
	certs := newCertificate(t, "a.test", "b.test", "*.wild.test")
	g := newGate(t, certs, func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		rest := &Route{Pool: poolTo(t, plan, echo(t))}
		for _, host := range []string{"a.test", "b.test", "other.test", "*.wild.test"} {
			sites[host] = &Site{Rest: rest}
		}
		sites["through.test"] = &Site{Passthrough: true, Pool: rest.Pool, Plain: rest.Pool}
		sites["faulty.test"] = &Site{Fault: "broken"}
	})
	for _, c := range []struct {
		host string
		want int
		end  bool
	}{
		{"a.test", 200, false}, {"A.Test.:8443", 200, false}, {"b.test", 200, false}, {"x.wild.test", 200, false},
		{"other.test", 421, true}, {"through.test", 421, true}, {"nobody.test", 404, false}, {"x.y.wild.test", 404, false},
		{"127.1", 400, true}, {"[::1]", 404, false}, {"faulty.test", 421, true},
	} {
		r, _ := g.get("a.test", c.host, "/")
		if r.StatusCode != c.want || r.Close != c.end {
			t.Errorf("%s: %d, close %t", c.host, r.StatusCode, r.Close)
		}
	}
	for name, want := range map[string]string{"nobody.test": "unrecognized name", "faulty.test": "internal error", "": "unrecognized name"} {
		if c, err := g.dialTLS(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", name, err)
			if c != nil {
				c.Close()
			}
		}
	}
	if log := g.lines(); !strings.Contains(log, `"cause":"unknown_name"`) || !strings.Contains(log, `"cause":"quarantined"`) {
		t.Error(log)
	}
}

func TestWhoOwnsAChallenge(t *testing.T) {
	certs := newCertificate(t, "acme.test")
	certs.token = "ours"
	g := newGate(t, certs, func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		pool := poolTo(t, plan, echo(t))
		sites["acme.test"] = &Site{Rest: &Route{Pool: pool}, OwnsChallenges: true, PlainHTTP: ForwardPlain}
		sites["*.acme.test"] = &Site{Rest: &Route{Pool: pool}, OwnsChallenges: true, PlainHTTP: RefusePlain}
		sites["file.test"] = &Site{Rest: &Route{Pool: pool}}
		sites["*"] = &Site{Passthrough: true, Pool: pool, Plain: pool, PlainHTTP: RefusePlain}
		sites["faulty.test"] = &Site{Fault: "broken", OwnsChallenges: true}
	})
	const prefix = "/.well-known/acme-challenge/"
	for _, c := range []struct {
		host, path string
		status     int
		body       string
	}{
		{"acme.test", prefix + "ours", 200, "acme.test.ours"},
		{"acme.test", prefix + "ours?x", 200, "acme.test.ours"},
		{"acme.test", prefix + "theirs", 404, "<!doctype"},
		{"acme.test", prefix, 404, "<!doctype"},
		{"x.acme.test", prefix + "theirs", 404, "<!doctype"},
		{"acme.test", "/.well-known/acme%2dchallenge/x", 400, "<!doctype"},
		{"acme.test", "/./.well-known/x/../acme-challenge/x", 400, "<!doctype"},
		{"acme.test", "/.well-known/acme-challenge", 200, "GET /.well-known/acme-challenge\n"},
		{"file.test", prefix + "x", 200, "GET " + prefix + "x\n"},
		{"through.test", prefix + "x", 200, "GET " + prefix + "x\n"},
		{"through.test", "/", 403, "<!doctype"},
		{"faulty.test", prefix + "ours", 503, "<!doctype"},
	} {
		r, body := g.get("", c.host, c.path)
		if r.StatusCode != c.status || !strings.HasPrefix(body, c.body) {
			t.Errorf("%s%s: %d %.60q", c.host, c.path, r.StatusCode, body)
		}
	}
	if r, body := g.get("acme.test", "acme.test", prefix+"ours"); r.StatusCode != 200 || body != "acme.test.ours" {
		t.Errorf("over TLS: %d %q", r.StatusCode, body)
	}
}

func TestRedirects(t *testing.T) {
	g := newGate(t, newCertificate(t, "a.test", "here.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		pool := poolTo(t, plan, echo(t))
		sites["a.test"] = &Site{Rest: &Route{Pool: pool}}
		sites["*.wild.test"] = &Site{Rest: &Route{Pool: pool}}
		sites["*"] = &Site{Rest: &Route{Pool: pool}}
		for host, target := range map[string]string{
			"here.test": "A.test.", "away.test": "example.org", "port.test": "example.org:99", "own.test": "a.test:99",
			"wild.test": "x.wild.test", "v6.test": "[2001:db8::1]",
		} {
			sites[host] = &Site{Rest: &Route{Redirect: target}, HSTS: true}
		}
		sites["refuse.test"] = &Site{Rest: &Route{Pool: pool}, PlainHTTP: RefusePlain}
	})
	for _, c := range []struct{ host, path, want string }{
		{"a.test", "/p?q=1", "https://a.test:8443/p?q=1"},
		{"A.TEST.:80", "//evil.example/%0d%0aSet-Cookie:x", "https://a.test:8443//evil.example/%0d%0aSet-Cookie:x"},
		{"b.wild.test", "/", "https://b.wild.test:8443/"},
		{"[2001:DB8::1]:80", "/", "https://[2001:db8::1]:8443/"},
		{"192.0.2.1", "/", "https://192.0.2.1:8443/"},
		{"here.test", "/p?q", "https://A.test.:8443/p?q"},
		{"away.test", "/", "https://example.org/"},
		{"port.test", "/", "https://example.org:99/"},
		{"own.test", "/", "https://a.test:99/"},
		{"wild.test", "/", "https://x.wild.test:8443/"},
		{"v6.test", "/", "https://[2001:db8::1]/"},
	} {
		r, body := g.get("", c.host, c.path)
		if got := r.Header.Get("Location"); r.StatusCode != 308 || got != c.want || body != "" {
			t.Errorf("%s: %d %q", c.host, r.StatusCode, got)
		}
		if r.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: HSTS on a plain connection", c.host)
		}
	}
	if r, _ := g.get("", "refuse.test", "/"); r.StatusCode != 403 || !r.Close {
		t.Errorf("refused: %d", r.StatusCode)
	}
	if r, _ := g.get("here.test", "here.test", "/"); r.StatusCode != 308 || r.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("a redirect of a site with hsts says %q", r.Header.Get("Strict-Transport-Security"))
	}
	r, _ := g.ask(g.dial(), "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n")
	if got := r.Header.Get("Location"); got != "https://a.test:8443/" {
		t.Errorf("OPTIONS *: %q", got)
	}
}

func TestForwardingFields(t *testing.T) {
	prefixes := func(texts ...string) (all []netip.Prefix) {
		for _, s := range texts {
			all = append(all, netip.MustParsePrefix(s))
		}
		return all
	}
	gateFor := func(trusted []netip.Prefix) *gate {
		return newGate(t, newCertificate(t, "a.test"), func(s *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
			s.TrustedProxies = trusted
			sites["a.test"] = &Site{Rest: &Route{Pool: poolTo(t, plan, echo(t))}, PlainHTTP: ForwardPlain}
		})
	}
	forged := []string{
		"X-Forwarded-For: 6.6.6.6", "x_forwarded_for: 6.6.6.6", "X-Forwarded-Proto: ftp", "X-Forwarded-Prefix: /x",
		"Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6", "X_Real-IP: 6.6.6.6", "X-Request-Id: forged", "Connection: x-real-ip, via",
	}
	g := gateFor(nil)
	ids := map[string]bool{}
	for name, want := range map[string]string{"": "http", "a.test": "https"} {
		r, body := g.get(name, "a.test:99", "/", forged...)
		for _, line := range []string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: " + want, "X-Forwarded-Host: a.test:99", "X-Real-Ip: 127.0.0.1", "Host: a.test:99", "Via: 1.1 usher-"} {
			if !strings.Contains(body, line) {
				t.Errorf("no %q in\n%s", line, body)
			}
		}
		for _, gone := range []string{"6.6.6.6", "ftp", "Prefix", "forged", "Connection"} {
			if strings.Contains(body, gone) {
				t.Errorf("%q came through:\n%s", gone, body)
			}
		}
		if name != "" && !strings.Contains(body, "X-Forwarded-Port: 8443") {
			t.Error(body)
		}
		id := regexp.MustCompile("X-Request-Id: [0-9a-hjkmnp-tv-z]{26}\r").FindString(body)
		if id == "" || ids[id] {
			t.Errorf("request id %q in\n%s", id, body)
		}
		ids[id] = true
		if r.Header.Get("Alt-Svc") != "" {
			t.Error("Alt-Svc of a VM came through")
		}
	}
	_, body := g.get("", "a.test", "/")
	_, via, _ := strings.Cut(body, "Via: ")
	via, _, _ = strings.Cut(via, "\r")
	if r, _ := g.get("", "a.test", "/", "Via: 1.0 fred, "+via); r.StatusCode != 508 {
		t.Errorf("seen before: %d", r.StatusCode)
	}
	g = gateFor(prefixes("127.0.0.0/8", "10.0.0.0/8", "fd00::/8"))
	for _, c := range []struct{ chain, from, sent string }{
		{"1.2.3.4", "1.2.3.4", "1.2.3.4, 127.0.0.1"},
		{"9.9.9.9, 1.2.3.4, 10.1.1.1", "1.2.3.4", "9.9.9.9, 1.2.3.4, 10.1.1.1, 127.0.0.1"},
		{"1.2.3.4:567", "1.2.3.4", "1.2.3.4:567, 127.0.0.1"},
		{"[2001:db8::1]:99, [fd00::1]", "2001:db8::1", "[2001:db8::1]:99, [fd00::1], 127.0.0.1"},
		{"2001:db8::1", "2001:db8::1", "2001:db8::1, 127.0.0.1"},
		{"::ffff:1.2.3.4", "1.2.3.4", "::ffff:1.2.3.4, 127.0.0.1"},
		{"1.2.3.4, garbage", "127.0.0.1", "1.2.3.4, garbage, 127.0.0.1"},
		{"1.2.3.4, unknown, 10.0.0.7", "10.0.0.7", "1.2.3.4, unknown, 10.0.0.7, 127.0.0.1"},
		{"1.2.3.4, , 10.0.0.7,", "1.2.3.4", "1.2.3.4, , 10.0.0.7,, 127.0.0.1"},
		{"10.0.0.8, 10.0.0.7", "10.0.0.8", "10.0.0.8, 10.0.0.7, 127.0.0.1"},
		{"", "127.0.0.1", "127.0.0.1"},
	} {
		_, body := g.get("", "a.test", "/", "X-Forwarded-For: "+c.chain, "X-Forwarded-Proto: https", "X_Forwarded_Proto: no", "X-Request-Id: id-1", "Forwarded: for=1.2.3.4")
		for _, line := range []string{"X-Real-Ip: " + c.from + "\r", "X-Forwarded-For: " + c.sent + "\r", "X-Forwarded-Proto: https\r", "X-Request-Id: id-1\r", "Forwarded: for=1.2.3.4, for=127.0.0.1\r"} {
			if !strings.Contains(body, line) {
				t.Errorf("%q: no %q in\n%s", c.chain, line, body)
			}
		}
	}
	if _, body := g.get("", "a.test", "/", "X-Request-Id: a b"); strings.Contains(body, "a b") {
		t.Error("an id with a space was taken")
	}
}

func TestErrorAnswers(t *testing.T) {
	g := newGate(t, newCertificate(t, "dead.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		nobody := address(l.Addr())
		l.Close()
		sites["dead.test"] = &Site{Rest: &Route{Pool: poolTo(t, plan, nobody)}, PlainHTTP: ForwardPlain}
		sites["faulty.test"] = &Site{Fault: "broken"}
	})
	r, body := g.get("", "dead.test", "/", "Accept: text/html,application/json;q=0.9")
	if r.StatusCode != 502 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/html") || !strings.Contains(body, "Request ") {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
	}
	r, body = g.get("", "dead.test", "/", "Accept: application/json")
	if r.StatusCode != 502 || r.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(body, `{"status":502,"error":"Bad Gateway","request_id":"`) {
		t.Errorf("%d %v %s", r.StatusCode, r.Header, body)
	}
	r, body = g.ask(g.dial(), "HEAD / HTTP/1.1\r\nHost: dead.test\r\n\r\n")
	if r.StatusCode != 502 || body != "" || r.ContentLength <= 0 {
		t.Errorf("HEAD: %d, length %d, %q", r.StatusCode, r.ContentLength, body)
	}
	if r, _ = g.get("", "faulty.test", "/"); r.StatusCode != 503 || r.Header.Get("Retry-After") == "" || r.Close {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r, _ = g.get("dead.test", "faulty.test", "/"); r.StatusCode != 421 {
		t.Errorf("%d", r.StatusCode)
	}
}

// TestPanicEndsOneExchange has a fault of our own in the middle of one.
func TestPanicEndsOneExchange(t *testing.T) {
	g := newGate(t, newCertificate(t, "a.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		sites["a.test"] = &Site{Rest: &Route{Whoami: true}, OwnsChallenges: true}
	})
	if r, _ := g.get("a.test", "a.test", challengePrefix+"panic"); r.StatusCode != 500 || !r.Close {
		t.Errorf("%d, close %t", r.StatusCode, r.Close)
	}
	if r, _ := g.get("a.test", "a.test", "/"); r.StatusCode != 200 {
		t.Errorf("after a panic: %d", r.StatusCode)
	}
	if log := g.lines(); strings.Count(log, `"reason":"panic"`) != 1 {
		t.Error(log)
	}
}

func TestPROXYHeaders(t *testing.T) {
	g := newGate(t, newCertificate(t, "a.test"), func(s *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		s.ProxyProtocolFrom = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		sites["a.test"] = &Site{Rest: &Route{Pool: poolTo(t, plan, echo(t))}, PlainHTTP: ForwardPlain}
	})
	const request = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
	_, body := g.ask(g.dial(), "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n"+request)
	if !strings.Contains(body, "X-Real-Ip: 192.0.2.7\r") || !strings.Contains(body, "X-Forwarded-Port: 80\r") {
		t.Error(body)
	}
	for _, address := range []string{g.plain, g.secure} {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(20 * time.Second))
		io.WriteString(c, request)
		if b, _ := io.ReadAll(c); len(b) > 0 {
			t.Errorf("without the header: %q", b)
		}
		c.Close()
	}
	log := strings.Split(g.lines(), "\n")
	for _, kind := range []string{"http", "https"} {
		if !slices.ContainsFunc(log, func(l string) bool {
			return strings.Contains(l, `"listener":"`+kind+`"`) && strings.Contains(l, "bad_proxy_header")
		}) {
			t.Errorf("no refusal by the %s listener in %q", kind, log)
		}
	}
}
