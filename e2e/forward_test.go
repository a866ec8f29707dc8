package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// banner is a VM that speaks first, as SSH does, and then says everything
// again.
func banner(name string) peer.Script {
	return func(l *peer.Link) {
		l.Say("SSH-2.0-" + name + "\r\n")
		peer.Mirror(l)
	}
}

// ports is the body of a configuration with these [[forward]]s and one site.
func ports(t testing.TB, forwards ...string) string {
	t.Helper()
	return "[sites]\n\"only.test\" = \"whoami://\"\n[[forward]]\n" + strings.Join(forwards, "\n[[forward]]\n")
}

// rawPort is an address for a forward.
func rawPort(t testing.TB) string {
	t.Helper()
	return rig.FreePort(t, rig.LoopbackIP())
}

// closesPort fails unless nobody accepts connections at addr any more.
func closesPort(t testing.TB, addr string) {
	t.Helper()
	rig.Eventually(t, addr+" is closed", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// TestForwardTCP: every byte both ways, whoever speaks first, each direction
// to its own end; a line in the log; the port in status and vms.
func TestForwardTCP(t *testing.T) {
	t.Parallel()
	vm, at := peer.Listen(t, banner("vm")), rawPort(t)
	u := start(t, "%s", ports(t, fmt.Sprintf("listen = %q\nto = %q", at, vm.Addr)))
	c := peer.Dial(t, at)
	c.WantExact("SSH-2.0-vm\r\n")
	noise := make([]byte, 3<<20)
	rand.New(rand.NewSource(1)).Read(noise)
	go func() {
		c.Try(string(noise))
		c.Conn.(*net.TCPConn).CloseWrite()
	}()
	c.WantExact(string(noise))
	c.WantClosed(peer.Patience)

	line := u.Line(t, "the tunnel", func(l rig.Line) bool { return l.Text("type") == "tunnel" })
	if line.Text("site") != "tcp://"+at || line.Text("backend") != vm.Addr || line.Text("closed_by") != "client" ||
		line.Number("bytes_in") != len(noise) || line.Number("bytes_out") != len(noise)+len("SSH-2.0-vm\r\n") {
		t.Errorf("access log: %v", line)
	}
	status, _, _ := u.CLI("status")
	vms, _, _ := u.CLI("vms")
	if !strings.Contains(status, "tcp "+at) || !strings.Contains(vms, vm.Addr) {
		t.Errorf("status:\n%s\nvms:\n%s", status, vms)
	}
}

// TestForwardVMs: several VMs share the connections, a dead one among them is
// nobody's problem, one that restarts is waited for, and without any the client
// sees a reset, not the end of an empty answer.
func TestForwardVMs(t *testing.T) {
	t.Parallel()
	one, two, at := peer.Listen(t, banner("one")), peer.Listen(t, banner("two")), rawPort(t)
	u := start(t, "[timeouts]\nhold = \"3s\"\n%s", ports(t, fmt.Sprintf("listen = %q\nto = [%q, %q]", at, one.Addr, two.Addr)))
	greet := func(n int) {
		t.Helper()
		for range n {
			c := peer.Dial(t, at)
			c.WantExact("SSH-2.0-")
			c.Close()
		}
	}
	greet(30)
	if one.Accepted() == 0 || two.Accepted() == 0 {
		t.Errorf("%d connections to one VM, %d to the other", one.Accepted(), two.Accepted())
	}
	two.Down()
	greet(20)
	one.Down()
	c := peer.Dial(t, at)
	<-time.After(time.Second) // the length of the outage
	one.Up()
	c.WantExact("SSH-2.0-one\r\n")

	one.Down()
	c = peer.Dial(t, at)
	if _, err := c.Rest(peer.Patience); !peer.IsReset(err) {
		t.Errorf("no VM: %v", err)
	}
	u.Line(t, "the refusal", func(l rig.Line) bool {
		return l.Text("type") == "refusal" && l.Text("listener") == "tcp" && l.Text("cause") == "backend_down"
	})
}

// TestForwardProxyHeader: the VM learns the client's address when the forward
// asks for it, also that which a balancer in front says.
func TestForwardProxyHeader(t *testing.T) {
	t.Parallel()
	vm, v1, v2 := peer.Listen(t, peer.Mirror), rawPort(t), rawPort(t)
	builds.Start(t, rig.Config{Listen: `proxy_protocol_from = ["127.0.0.5/32"]`, Body: ports(t,
		fmt.Sprintf("listen = %q\nto = %q\nproxy_protocol = \"v1\"", v1, vm.Addr),
		fmt.Sprintf("listen = %q\nto = %q\nproxy_protocol = \"v2\"", v2, vm.Addr))})
	for version, at := range map[string]string{"v1": v1, "v2": v2} {
		c := peer.DialFrom(t, "127.0.0.77", at)
		c.Send("hello")
		src, dst := wantProxyHeader(t, c.R, version)
		if src != c.LocalAddr().String() || dst != at {
			t.Errorf("%s: from %s to %s, want from %s to %s", version, src, dst, c.LocalAddr(), at)
		}
		c.WantExact("hello")

		c = peer.DialFrom(t, listed, at)
		c.Send(proxyV2("192.0.2.7:4711", "192.0.2.1:22") + "hello")
		if src, dst = wantProxyHeader(t, c.R, version); src != "192.0.2.7:4711" || dst != "192.0.2.1:22" {
			t.Errorf("%s: relayed from %s to %s", version, src, dst)
		}
		c.WantExact("hello")
	}
}

// TestForwardReload: what did not change goes on; what leads elsewhere or is
// gone gets the drain time; a port that cannot be had refuses the file.
func TestForwardReload(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, banner("one")), peer.Listen(t, banner("two"))
	same, moved, gone, added := rawPort(t), rawPort(t), rawPort(t), rawPort(t)
	to := func(at, vm string) string { return fmt.Sprintf("listen = %q\nto = %q", at, vm) }
	const times = "[timeouts]\ndrain = \"6s\"\n"
	u := start(t, "%s", times+ports(t, to(same, one.Addr), to(moved, one.Addr), to(gone, one.Addr)))
	stay, move, leave := peer.Dial(t, same), peer.Dial(t, moved), peer.Dial(t, gone)
	for _, c := range []*peer.Client{stay, move, leave} {
		c.WantExact("SSH-2.0-one\r\n")
	}
	taken, err := net.Listen("tcp", added)
	if err != nil {
		t.Fatal(err)
	}
	next := times + ports(t, to(same, one.Addr), to(moved, two.Addr), to(added, two.Addr))
	if why := u.Refused(next); !strings.Contains(why, added) {
		t.Errorf("refused for %q", why)
	}
	fresh := peer.Dial(t, gone) // the old configuration serves on
	fresh.WantExact("SSH-2.0-one\r\n")
	taken.Close()

	begin := time.Now()
	said := u.Reload(next)
	for _, want := range []string{"added tcp://" + added, "removed tcp://" + gone, "changed tcp://" + moved} {
		if !strings.Contains(said, want) {
			t.Errorf("reload does not say %q: %s", want, said)
		}
	}
	for _, c := range []*peer.Client{move, leave} {
		c.Send("still here")
		c.WantExact("still here")
	}
	closesPort(t, gone)
	for at, name := range map[string]string{same: "one", moved: "two", added: "two"} {
		peer.Dial(t, at).WantExact("SSH-2.0-" + name + "\r\n")
	}
	for _, c := range []*peer.Client{move, leave, fresh} {
		if _, err := c.Rest(peer.Patience); isTimeout(err) {
			t.Error("a tunnel whose backend left is open after the drain time")
		}
	}
	if d := time.Since(begin); d < 6*time.Second {
		t.Errorf("ended %v after the reload", d)
	}
	stay.Send("and I stay")
	stay.WantExact("and I stay")
}

// TestForwardIdle: a forward's own tunnel_idle.
func TestForwardIdle(t *testing.T) {
	t.Parallel()
	vm, at := peer.Listen(t, peer.Mirror), rawPort(t)
	start(t, "%s", ports(t, fmt.Sprintf("listen = %q\nto = %q\ntunnel_idle = \"1s\"", at, vm.Addr)))
	c := peer.Dial(t, at)
	c.Send("x")
	c.WantExact("x")
	begin := time.Now()
	c.Rest(peer.Patience)
	if d := time.Since(begin); d < 500*time.Millisecond || d > 8*time.Second {
		t.Errorf("ended after %v", d)
	}
	vm.WaitOpen(0)
}

// TestForwardToItself: a loop is broken where it would begin.
func TestForwardToItself(t *testing.T) {
	t.Parallel()
	vm, a, b := peer.Listen(t, peer.Mirror), rawPort(t), rawPort(t)
	u := start(t, "[timeouts]\nhold = \"0s\"\n%s", ports(t,
		fmt.Sprintf("listen = %q\nto = %q", a, b), fmt.Sprintf("listen = %q\nto = %q", b, a),
		fmt.Sprintf("listen = %q\nprotocol = \"udp\"\nto = %q", a, b), fmt.Sprintf("listen = %q\nprotocol = \"udp\"\nto = %q", b, a)))
	if _, err := peer.Dial(t, a).Rest(peer.Patience); isTimeout(err) {
		t.Error("a loop over TCP")
	}
	udpClient(t, "", a).say("round and round")
	u.Line(t, "the UDP refusal", func(l rig.Line) bool { return l.Text("listener") == "udp" })
	if vm.Accepted() > 0 {
		t.Error("somebody was reached")
	}
}

// TestForwardSNI: one port, several VMs by server name, with and without their
// own TLS, and the rest elsewhere or nowhere.
func TestForwardSNI(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	_, secure, root := nginx(t, ca, "web.test")
	peer.Replace(t, filepath.Join(root, "page.txt"), []byte("by nginx"))
	broker, rest := peer.Listen(t, peer.Mirror), peer.Listen(t, peer.Mirror)
	dead := rawPort(t)
	strictly, generous := rawPort(t), rawPort(t)
	sni := fmt.Sprintf(`[forward.sni]
"web.test" = "passthrough://%s"
"mqtt.test" = "tcp://%s"
"*.things.test" = { to = "tcp://%s", certificate = "local" }
"dead.test" = "passthrough://%s"
"deadtcp.test" = "tcp://%s"`, secure, broker.Addr, broker.Addr, dead, dead)
	u := start(t, "[timeouts]\nhold = \"0s\"\n%s", ports(t, fmt.Sprintf("listen = %q\n%s", strictly, sni),
		fmt.Sprintf("listen = %q\nto = %q\n%s", generous, rest.Addr, sni)))
	for _, at := range []string{strictly, generous} {
		get := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: "web.test", RootCAs: ca.Pool}, DisableKeepAlives: true}}
		r, err := get.Get("https://" + at + "/page.txt")
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(r.Body); string(b) != "by nginx" {
			t.Errorf("passthrough: %q", b)
		}
		r.Body.Close()

		for _, host := range []string{"mqtt.test", "a.things.test"} {
			c := secured(t, u, at, host)
			c.Send("\x10\x0c\x00\x04MQTT")
			c.WantExact("\x10\x0c\x00\x04MQTT")
			c.Conn.(*tls.Conn).CloseWrite()
			c.WantClosed(peer.Patience)
		}
		if c := secured(t, u, at, "mqtt.test"); c.Certificate().VerifyHostname("mqtt.test") != nil || c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol != "" {
			t.Errorf("certificate %v, protocol %q", c.Certificate().DNSNames, c.Conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
		}
		c := peer.Dial(t, at)
		c.Send(string(rig.Hello(t, &tls.Config{ServerName: "dead.test"})))
		wantAlert(t, c, "a VM that is away", alertInternalError)
		_, err = secured(t, u, at, "deadtcp.test").Rest(peer.Patience)
		if !peer.IsReset(err) {
			t.Errorf("a plain VM that is away: %v", err)
		}
	}
	line := u.Line(t, "a terminated tunnel", func(l rig.Line) bool { return l.Text("sni") == "a.things.test" })
	if line.Text("site") != "tcp://"+strictly || line.Text("backend") != broker.Addr || line.Number("bytes_in") != 8 {
		t.Errorf("access log: %v", line)
	}

	hello := string(rig.Hello(t, &tls.Config{ServerName: "other.test"}))
	nameless := string(rig.Hello(t, &tls.Config{}))
	for name, bytes := range map[string]string{"unknown name": hello, "no name": nameless} {
		c := peer.Dial(t, strictly)
		c.Send(bytes)
		wantAlert(t, c, name, alertUnrecognizedName)
		c = peer.Dial(t, generous)
		c.Send(bytes)
		c.WantExact(bytes)
	}
	c := peer.Dial(t, generous)
	c.Send("no TLS at all")
	c.WantExact("no TLS at all")
	c = peer.Dial(t, strictly)
	c.Try("no TLS at all")
	if _, err := c.Rest(peer.Patience); isTimeout(err) {
		t.Error("plain bytes are not refused")
	}
	c = peer.Dial(t, strictly)
	c.Try("\x16\x03\x01\x00\x08\x01\x00\x00\x04junk")
	wantAlert(t, c, "a broken hello", alertDecodeError)
}

// secured is a TLS connection to a port of u that ends at u.
func secured(t testing.TB, u *rig.Usher, at, host string) (c *peer.Client) {
	t.Helper()
	rig.Eventually(t, "a certificate for "+host, func() (ok bool) {
		got, err := peer.Dial(t, at).Handshake(&tls.Config{ServerName: host, RootCAs: u.Roots(), NextProtos: []string{"mqtt"}})
		c = got
		return err == nil
	})
	return c
}

// TestForwardACME: a name that is no site gets its certificate by the usual
// ports, also where another site catches every name, and is still no site.
func TestForwardACME(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		noHTTP, deadTLS, catchAll bool
	}{
		"HTTP-01":                  {deadTLS: true},
		"HTTP-01 beside catch-all": {deadTLS: true, catchAll: true},
		"TLS-ALPN-01":              {noHTTP: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm, at := peer.Listen(t, peer.Mirror), rawPort(t)
			u := builds.Prepare(t, rig.Config{NoHTTP: c.noHTTP})
			tlsPort := rig.Port(u.HTTPS)
			if c.deadTLS {
				tlsPort = 9
			}
			p := builds.Pebble(t, rig.PebbleConfig{IP: u.IP, HTTP: rig.Port(u.HTTP), TLS: tlsPort, RetryAfter: 1})
			body := p.Section() + ports(t, fmt.Sprintf("listen = %q\nsni = { \"mqtt.example.com\" = \"tcp://%s\" }", at, vm.Addr))
			if c.catchAll {
				body = strings.Replace(body, `"only.test" = "whoami://"`, `"*" = "passthrough://`+vm.Addr+`"`, 1)
			}
			u.Write(t, body)
			u.Run()
			u.WaitReady()
			roots := p.Roots()
			rig.EventuallyWithin(t, time.Minute, "the certificate", func() bool {
				got, err := peer.Dial(t, at).Handshake(&tls.Config{ServerName: "mqtt.example.com", RootCAs: roots})
				if err == nil {
					got.Send("hi")
					got.WantExact("hi")
				}
				return err == nil
			})
			if c.catchAll {
				return
			}
			if alert := u.Alert(&tls.Config{ServerName: "mqtt.example.com"}); alert != alertUnrecognizedName {
				t.Errorf("on the https port: alert %d", alert)
			}
			if !c.noHTTP {
				for _, path := range []string{"/", "/.well-known/acme-challenge/nonsense"} {
					if got := u.Dial().Get("mqtt.example.com", path).Status; got != 404 {
						t.Errorf("%s on the http port: %d", path, got)
					}
				}
			}
		})
	}
}
