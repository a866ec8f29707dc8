package e2e

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

const (
	alertDecodeError      = 50
	alertInternalError    = 80
	alertUnrecognizedName = 112
)

// bigALPN makes a hello of about n bytes; the last protocol is one that
// everybody speaks.
func bigALPN(n int) (protos []string) {
	for i := 0; n > 0; i++ {
		protos = append(protos, fmt.Sprintf("x%03d%s", i, strings.Repeat("-", 240)))
		n -= 245
	}
	return append(protos, "http/1.1")
}

// TestHelloInPieces sends ClientHellos the way middleboxes and post-quantum
// clients make them arrive, to a terminated and to a passthrough site.
func TestHelloInPieces(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	plain, secure := peer.Listen(t, peer.Name("plain")), peer.ListenTLS(t, ca.Server("pass.test"), peer.Name("secure"))
	u := start(t, `[sites]
"term.test" = "http://%s"
"pass.test" = "passthrough://%s"`, plain.Addr, secure.Addr)
	u.TLS("term.test").Close()

	shapes := []struct {
		name            string
		record, segment int
		hello           int
	}{
		{"whole", 0, 0, 0},
		{"small segments", 0, 7, 0},
		{"small records", 40, 0, 0},
		{"small records in single bytes", 40, 1, 0},
		{"20 KiB", 0, 0, 20 << 10},
		{"20 KiB in odd records", 1000, 333, 20 << 10},
		{"60 KiB", 0, 0, 60 << 10},
	}
	for _, site := range []struct{ host, body string }{{"term.test", "plain"}, {"pass.test", "secure"}} {
		for _, s := range shapes {
			t.Run(site.host+" "+s.name, func(t *testing.T) {
				conf := &tls.Config{ServerName: site.host, RootCAs: u.Roots(), NextProtos: bigALPN(s.hello)}
				if site.body == "secure" {
					conf.RootCAs, conf.NextProtos = ca.Pool, bigALPN(s.hello)
				}
				raw := peer.Dial(t, u.HTTPS)
				raw.Conn = &rig.Fragmented{Conn: raw.Conn, Record: s.record, Segment: s.segment}
				c, err := raw.Handshake(conf)
				if err != nil {
					t.Fatal(err)
				}
				if got := string(c.Get(site.host, "/").Body); got != site.body {
					t.Errorf("answered by %q", got)
				}
			})
		}
	}
}

// TestHelloUnknown: names that are nobody's end in one alert, and no VM hears
// of them.
func TestHelloUnknown(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	for _, name := range []string{"bbbb.test", "x.aaaa.test", "127.0.0.1", "", "aaaa.test.evil.example", "[::1]"} {
		if alert := u.Alert(&tls.Config{ServerName: name}); alert != alertUnrecognizedName {
			t.Errorf("server name %q: alert %d", name, alert)
		}
	}
	for _, name := range []string{"aaaa\x00test", "aaaa\ntest", "127.0.0.1", "aaaa test", "\xff\xfe\xfdxx.test", "..aaaa.te"} {
		c := peer.Dial(t, u.HTTPS)
		c.Send(string(helloFor(t, name)))
		wantAlert(t, c, name, alertUnrecognizedName, alertDecodeError)
	}
	if vm.Accepted() > 0 {
		t.Errorf("the VM got %d connections", vm.Accepted())
	}
}

// TestHelloSpelling: case and one trailing dot do not matter.
func TestHelloSpelling(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"
"*.wild.test" = "passthrough://%s"`, vm.Addr, vm.Addr)
	for _, name := range []string{"aaaa.test", "AAAA.Test", "aaaa.test.", "x.wild.test", "X.WILD.test"} {
		c, hello := peer.Dial(t, u.HTTPS), string(helloFor(t, name))
		c.Send(hello)
		c.WantExact(hello)
	}
	for _, name := range []string{"wild.test", "a.b.wild.test"} {
		c := peer.Dial(t, u.HTTPS)
		c.Send(string(helloFor(t, name)))
		wantAlert(t, c, name, alertUnrecognizedName)
	}
}

// TestHelloCatchAll: with a "*" site every name, and none, has an owner.
func TestHelloCatchAll(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"*" = "passthrough://%s"`, vm.Addr)
	for _, name := range []string{"any.example", "a.b.c.d.example", ""} {
		c, hello := peer.Dial(t, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: name}))
		c.Send(hello)
		c.WantExact(hello)
	}
}

// TestHelloFaulty: what cannot be a ClientHello gets decode_error, or no word.
func TestHelloFaulty(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	large := append([]byte{1, 1, 0x10, 0}, bytes.Repeat([]byte{7}, 70<<10)...)
	hello := rig.Handshake(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))
	cut := append([]byte(nil), hello...)
	cut[3] -= 30 // the message ends inside its extensions
	for name, b := range map[string][]byte{
		"over 64 KiB":            rig.Records(large, 16<<10),
		"says it is over 64 KiB": rig.Records(large[:100], 100),
		"not a ClientHello":      rig.Records(append([]byte{2}, hello[1:]...), 16<<10),
		"cut short":              rig.Records(cut[:len(cut)-30], 16<<10),
		"record over its limit":  append([]byte{22, 3, 1, 0xff, 0xff}, large[:65535]...),
		"another record between": append(rig.Records(hello[:50], 50), append([]byte{23, 3, 3, 0, 1, 0}, rig.Records(hello[50:], 16<<10)...)...),
		"empty records":          bytes.Repeat([]byte{22, 3, 1, 0, 0}, 100),
	} {
		c := peer.Dial(t, u.HTTPS)
		c.Try(string(b))
		wantAlert(t, c, name, alertDecodeError)
	}
	if vm.Accepted() > 0 {
		t.Errorf("the VM got %d connections", vm.Accepted())
	}
}

// TestHelloSlow: five seconds for the whole hello, however it trickles in.
func TestHelloSlow(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	hello := rig.Hello(t, &tls.Config{ServerName: "aaaa.test"})
	begin := time.Now()
	idle, trickle := peer.Dial(t, u.HTTPS), peer.Dial(t, u.HTTPS)
	go func() {
		for _, b := range hello[:100] {
			if trickle.Try(string([]byte{b})) != nil {
				return
			}
			<-time.After(200 * time.Millisecond)
		}
	}()
	for _, c := range []*peer.Client{idle, trickle} {
		c.Rest(peer.Patience)
		if d := time.Since(begin); d < 4*time.Second || d > 9*time.Second {
			t.Errorf("closed after %v", d)
		}
	}
}

// TestNotTLS: plain HTTP on the TLS port is told so, anything else is closed.
func TestNotTLS(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	c := peer.Dial(t, u.HTTPS)
	p := c.Get("aaaa.test", "/")
	if p.Status != 400 || !strings.Contains(strings.ToLower(string(p.Body)), "https") {
		t.Errorf("plain HTTP got %d %q", p.Status, p.Body)
	}
	c.WantClosed(2 * time.Second)
	for _, junk := range []string{"\x00\x01\x02\x03\x04\x05", "SSH-2.0-OpenSSH_9\r\n", "\x80\x2e\x01\x00\x02", "\r\n\r\n\r\n"} {
		c := peer.Dial(t, u.HTTPS)
		c.Send(junk)
		if rest, err := c.Rest(7 * time.Second); isTimeout(err) || len(rest) > 0 && !bytes.HasPrefix(rest, []byte("HTTP/1.1 400 ")) {
			t.Errorf("%q: %v, answer %q", junk, err, rest)
		}
	}
}

// helloFor is a hello with any bytes at all as the server name.
func helloFor(t *testing.T, name string) []byte {
	t.Helper()
	place := strings.Repeat("z", max(len(name)-5, 1)) + ".test"
	hello := rig.Handshake(rig.Hello(t, &tls.Config{ServerName: place}))
	if len(place) != len(name) || bytes.Count(hello, []byte(place)) != 1 {
		t.Fatalf("no hello can be made for %q", name)
	}
	return rig.Records(bytes.Replace(hello, []byte(place), []byte(name), 1), 16<<10)
}

// wantAlert reads a fatal alert and the end of the connection.
func wantAlert(t *testing.T, c *peer.Client, what string, alerts ...byte) {
	t.Helper()
	rest, err := c.Rest(peer.Patience)
	if err != nil || len(rest) != 7 || rest[0] != 21 || rest[5] != 2 {
		t.Errorf("%q: no fatal alert but %x, %v", what, rest, err)
		return
	}
	if !bytes.Contains(alerts, rest[6:]) {
		t.Errorf("%q: alert %d", what, rest[6])
	}
}

func isTimeout(err error) bool {
	e, ok := err.(interface{ Timeout() bool })
	return ok && e.Timeout()
}
