package e2e

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// signature begins a PROXY v2 header.
const signature = "\r\n\r\n\x00\r\nQUIT\n"

// wantProxyHeader reads a PROXY header and returns its two addresses.
func wantProxyHeader(t testing.TB, r *bufio.Reader, version string) (src, dst string) {
	t.Helper()
	if version == "v1" {
		l, err := r.ReadString('\n')
		f := strings.Fields(l)
		if err != nil || len(f) != 6 || f[0] != "PROXY" || !strings.HasSuffix(l, "\r\n") {
			t.Fatalf("PROXY v1 header %q, %v", l, err)
		}
		return f[2] + ":" + f[4], f[3] + ":" + f[5]
	}
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil || string(head[:12]) != signature || head[12] != 0x21 {
		t.Fatalf("PROXY v2 header %x, %v", head, err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[14:]))
	if _, err := io.ReadFull(r, body); err != nil {
		t.Fatal(err)
	}
	n := 4
	if head[13] == 0x21 {
		n = 16
	}
	addr := func(ip, port []byte) string {
		a, _ := netip.AddrFromSlice(ip)
		return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port)).String()
	}
	return addr(body[:n], body[2*n:]), addr(body[n:2*n], body[2*n+2:])
}

// proxyV2 is a version 2 header for TCP, with a TLV to be skipped.
func proxyV2(src, dst string) string {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	family := byte(0x11)
	if s.Addr().Is6() {
		family = 0x21
	}
	b := append(s.Addr().AsSlice(), d.Addr().AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, s.Port())
	b = binary.BigEndian.AppendUint16(b, d.Port())
	b = append(b, 4, 0, 3, 'a', 'b', 'c') // NOOP
	return signature + "\x21" + string(family) + string(binary.BigEndian.AppendUint16(nil, uint16(len(b)))) + string(b)
}

const listed, unlisted = "127.0.0.5", "127.0.0.6"

func proxyListener(t *testing.T, vm *peer.VM) *rig.Usher {
	return builds.Start(t, rig.Config{Listen: `proxy_protocol_from = ["127.0.0.5/32"]`, Body: fmt.Sprintf(`[sites."aaaa.test"]
to = "http://%s"
http = "forward"
[sites."pass.test"]
to = "passthrough://%s"
proxy_protocol = "v1"`, vm.Addr, vm.Addr)})
}

// TestProxyHeaderIn: a listed peer's header is believed, on both ports, before
// TLS, in one piece or in many.
func TestProxyHeaderIn(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := proxyListener(t, vm)
	for name, header := range map[string]string{
		"v1":        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n",
		"v1 IPv6":   "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n",
		"v2":        proxyV2("192.0.2.7:4711", "192.0.2.1:80"),
		"v2 IPv6":   proxyV2("[2001:db8::7]:4711", "[2001:db8::1]:80"),
		"v1 mapped": "PROXY TCP6 ::ffff:192.0.2.7 ::ffff:192.0.2.1 4711 80\r\n",
	} {
		want := "192.0.2.7"
		if strings.Contains(name, "IPv6") {
			want = "2001:db8::7"
		}
		c := peer.DialFrom(t, listed, u.HTTP)
		c.Send(header)
		wantEcho(t, name, string(c.Get("aaaa.test", "/").Body), "X-Real-IP", want)

		c = peer.DialFrom(t, listed, u.HTTPS)
		for _, b := range []byte(header) {
			c.Send(string([]byte{b}))
		}
		tc, err := c.Handshake(&tls.Config{ServerName: "aaaa.test", InsecureSkipVerify: true})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		wantEcho(t, name, string(tc.Get("aaaa.test", "/").Body), "X-Forwarded-For", want)
	}
	for name, header := range map[string]string{
		"v1 UNKNOWN": "PROXY UNKNOWN\r\n",
		"v2 LOCAL":   signature + "\x20\x00\x00\x00",
	} {
		c := peer.DialFrom(t, listed, u.HTTP)
		c.Send(header)
		wantEcho(t, name, string(c.Get("aaaa.test", "/").Body), "X-Real-IP", listed)
	}
}

// TestProxyHeaderRelayed: in by one version and out by the other.
func TestProxyHeaderRelayed(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := proxyListener(t, vm)
	c, hello := peer.DialFrom(t, listed, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	c.Send(proxyV2("192.0.2.7:4711", "192.0.2.1:443") + hello)
	src, dst := wantProxyHeader(t, c.R, "v1")
	if src != "192.0.2.7:4711" || dst != "192.0.2.1:443" {
		t.Errorf("the VM was told from %s to %s", src, dst)
	}
	c.WantExact(hello)
}

// TestProxyHeaderRefused: no header from those who must send one, a faulty
// one, or one from those who may not.
func TestProxyHeaderRefused(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := proxyListener(t, vm)
	v2, get := proxyV2("192.0.2.7:4711", "192.0.2.1:80"), peer.Get("aaaa.test", "/")
	for name, bytes := range map[string]string{
		"none":             get,
		"v1 over 107":      "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80" + strings.Repeat(" ", 90) + "\r\n" + get,
		"v1 bad address":   "PROXY TCP4 192.0.2.777 192.0.2.1 4711 80\r\n" + get,
		"v1 bad port":      "PROXY TCP4 192.0.2.7 192.0.2.1 471111 80\r\n" + get,
		"v1 wrong family":  "PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n" + get,
		"v1 unknown word":  "PROXY SCTP 192.0.2.7 192.0.2.1 4711 80\r\n" + get,
		"v1 LF only":       "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\n" + get,
		"v2 bad version":   v2[:12] + "\x31" + v2[13:] + get,
		"v2 bad command":   v2[:12] + "\x25" + v2[13:] + get,
		"v2 short address": signature + "\x21\x11\x00\x04abcd" + get,
		"twice":            "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nPROXY TCP4 192.0.2.8 192.0.2.1 4711 80\r\n" + get,
	} {
		c := peer.DialFrom(t, listed, u.HTTP)
		c.Try(bytes)
		rest, err := c.Rest(peer.Patience)
		if isTimeout(err) || strings.HasPrefix(string(rest), "HTTP/1.1 2") {
			t.Errorf("%s: %v, %.60q", name, err, rest)
		}
	}
	for _, header := range []string{"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n", v2} {
		c := peer.DialFrom(t, unlisted, u.HTTP)
		c.Try(header + get)
		rest, err := c.Rest(peer.Patience)
		if isTimeout(err) || strings.HasPrefix(string(rest), "HTTP/1.1 2") {
			t.Errorf("unlisted %.12q: %v, %.60q", header, err, rest)
		}
	}
	if n := len(vm.Requests()); n > 0 {
		t.Errorf("the VM got %d requests", n)
	}
	c := peer.DialFrom(t, unlisted, u.HTTP)
	wantEcho(t, "unlisted, none", string(c.Get("aaaa.test", "/").Body), "X-Real-IP", unlisted)
}

// wantEcho looks for a field in what peer.Echo answered.
func wantEcho(t testing.TB, what, echo, field, want string) {
	t.Helper()
	for l := range strings.SplitSeq(echo, "\n") {
		name, value, _ := strings.Cut(l, ": ")
		if strings.EqualFold(name, field) {
			if value != want {
				t.Errorf("%s: %s is %q, want %q", what, field, value, want)
			}
			return
		}
	}
	t.Errorf("%s: no %s in\n%s", what, field, echo)
}
