package proxy

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/upstream"
	"usher/telemetry"
)

// nobody is the address of a VM that is not there.
func nobody(t *testing.T) upstream.Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return address(l.Addr())
}

// TestPagesOfASite: what usher answers for a site whose VM is away is the
// site's own page, and JSON to API clients.
func TestPagesOfASite(t *testing.T) {
	g := newGate(t, newCertificate(t, "a.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		sites["pages.test"] = &Site{
			Rest: &Route{Pool: poolTo(t, plan, nobody(t))}, PlainHTTP: ForwardPlain,
			ErrorPages: map[int][]byte{502: []byte("<p>our 502")}, Maintenance: []byte("<p>back soon"),
		}
		sites["away.test"] = &Site{Rest: &Route{Pool: poolTo(t, plan, nobody(t))}, PlainHTTP: ForwardPlain, Maintenance: []byte("<p>back soon")}
		sites["none.test"] = &Site{Rest: &Route{Pool: poolTo(t, plan, nobody(t))}, PlainHTTP: ForwardPlain}
		sites["refuses.test"] = &Site{PlainHTTP: RefusePlain, ErrorPages: map[int][]byte{403: []byte("<p>encrypt")}}
	})
	for _, c := range []struct {
		host, accept string
		status       int
		want         string
	}{
		{"pages.test", "text/html", 502, "<p>our 502"},
		{"pages.test", "*/*", 502, "<p>our 502"},
		{"pages.test", "application/json", 502, `{"status":502,"error":"Bad Gateway","request_id":"`},
		{"away.test", "text/html", 502, "<p>back soon"},
		{"none.test", "text/html", 502, "could not be reached"},
		{"refuses.test", "text/html", 403, "<p>encrypt"},
	} {
		r, body := g.get("", c.host, "/", "Accept: "+c.accept)
		if r.StatusCode != c.status || !strings.Contains(body, c.want) || r.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s for %s: %d %q", c.host, c.accept, r.StatusCode, body)
		}
	}
}

// recorder is the client's side of an exchange that is answered at once.
type recorder struct {
	message.Stream
	head message.Response
	body strings.Builder
}

func (r *recorder) WriteHead(h *message.Response) error {
	r.head = *h
	return nil
}
func (r *recorder) Write(p []byte) (int, error)      { return r.body.Write(p) }
func (r *recorder) CloseWrite(*message.Header) error { return nil }

// TestWaitingPage: a browser gets a page that asks again by itself.
func TestWaitingPage(t *testing.T) {
	for accept, want := range map[string]string{"text/html": "asleep", "application/json": `"status":503`} {
		r := &recorder{}
		ex := &message.Exchange{Stream: r}
		ex.Request.Method = []byte("GET")
		ex.Request.Header.AddString("Accept", accept)
		site := &Site{Maintenance: []byte("<p>back soon")}
		New(Options{}).answerFailure(site, ex, &message.Error{Status: 503, Starting: true, RetryAfter: 1500 * time.Millisecond})
		after, _ := r.head.Header.Get(message.RetryAfter)
		refresh, _ := r.head.Header.Lookup("Refresh")
		if r.head.Status != 503 || string(after) != "2" || (string(refresh) == "2") != (accept == "text/html") || !strings.Contains(r.body.String(), want) {
			t.Errorf("%s: %d, Retry-After %q, Refresh %q, %q", accept, r.head.Status, after, refresh, r.body.String())
		}
	}
}

// TestStickyVisitors come back to their VM with the cookie that they got.
func TestStickyVisitors(t *testing.T) {
	var vms []upstream.Address
	for n := range 2 {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, n) }))
		t.Cleanup(s.Close)
		vms = append(vms, address(s.Listener.Addr()))
	}
	g := newGate(t, newCertificate(t, "a.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		pool, err := plan.Pool(upstream.Spec{
			Addresses: vms, Connect: time.Second, ResponseHead: time.Minute,
			Sticky: &upstream.Sticky{Cookie: "seat", Key: []byte("key")},
		})
		if err != nil {
			t.Fatal(err)
		}
		sites["a.test"] = &Site{Rest: &Route{Pool: pool}, PlainHTTP: ForwardPlain}
	})
	r, first := g.get("a.test", "a.test", "/")
	cookies := r.Cookies()
	if len(cookies) != 1 || cookies[0].Name != "seat" || !cookies[0].Secure || !cookies[0].HttpOnly || cookies[0].SameSite != http.SameSiteLaxMode {
		t.Fatalf("cookies %v", cookies)
	}
	for range 10 {
		r, body := g.get("a.test", "a.test", "/", "Cookie: seat="+cookies[0].Value)
		if body != first || len(r.Cookies()) != 0 {
			t.Fatalf("the visitor of %s went to %s and got %v", first, body, r.Cookies())
		}
	}
	if r, _ := g.get("", "a.test", "/"); len(r.Cookies()) != 1 || r.Cookies()[0].Secure {
		t.Errorf("on a plain connection: %v", r.Cookies())
	}
}

// TestAHeldTunnelMayLeave: a client that gives up while its VM restarts is not
// waited for.
func TestAHeldTunnelMayLeave(t *testing.T) {
	held := make(chan *upstream.Pool, 1)
	g := newGate(t, newCertificate(t, "b.test"), func(_ *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		pool, err := plan.Pool(upstream.Spec{Addresses: []upstream.Address{nobody(t)}, Connect: time.Second, Hold: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		held <- pool
		sites["a.test"] = &Site{Passthrough: true, Pool: pool}
	})
	c, err := net.Dial("tcp", g.secure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := (<-held).Backends()[0]
	go tls.Client(c, &tls.Config{ServerName: "a.test", InsecureSkipVerify: true}).Handshake()
	until(t, func() bool { return b.State().Failing && g.metrics.Connections(telemetry.HTTPS) == 1 })
	c.Close()
	until(t, func() bool { return g.metrics.Connections(telemetry.HTTPS) == 0 })
}

// until polls a condition that another goroutine brings about.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("waited in vain")
		}
	}
}
