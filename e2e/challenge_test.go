package e2e

import (
	"crypto/tls"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

const challenge = "/.well-known/acme-challenge/some-token_1"

// TestChallengePathOfPassthrough: the VM owns its challenges, on http_port,
// whatever else port 80 does for the site.
func TestChallengePathOfPassthrough(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("key-auth"))
	u := start(t, `[sites."pass.test"]
to = "passthrough://127.0.0.1:9"
http_port = %[1]d
[sites."shut.test"]
to = "passthrough://127.0.0.1:9"
http_port = %[1]d
http = "refuse"
[sites."*.wild.test"]
to = "passthrough://127.0.0.1:9"
http_port = %[1]d
[sites."*"]
to = "passthrough://127.0.0.1:9"
http_port = %[1]d`, rig.Port(vm.Addr))
	for _, host := range []string{"pass.test", "shut.test", "x.wild.test", "anything.example"} {
		if p := u.Dial().Get(host, challenge); string(p.Body) != "key-auth" {
			t.Errorf("%s: %d %q", host, p.Status, p.Body)
		}
	}
	if p := u.Dial().Get("pass.test", "/.well-known/other"); p.Status != 308 {
		t.Errorf("another path: %d", p.Status)
	}
}

// TestChallengePathOfTerminated: a token that is not ours is 404 and never
// reaches a VM, since whoever answers it gets the certificate.
func TestChallengePathOfTerminated(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("hijack"))
	u := start(t, `[acme]
directory = "https://127.0.0.1:9/dir"
[sites."aaaa.test"]
to = "http://%[1]s"
certificate = "acme"
[sites."fwd.test"]
to = "http://%[1]s"
certificate = "acme"
http = "forward"
[sites."fwd.test".paths]
"/.well-known/" = "http://%[1]s"`, vm.Addr)
	for _, host := range []string{"aaaa.test", "fwd.test"} {
		for _, path := range []string{challenge, "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x/y"} {
			p := u.Dial().Get(host, path)
			if p.Status != 404 {
				t.Errorf("%s%s: %d", host, path, p.Status)
			}
		}
		for _, path := range []string{"/.well-known/%61cme-challenge/x", "/x/../.well-known/acme-challenge/x", "/.well-known/./acme-challenge/x"} {
			if p := u.Dial().Get(host, path); string(p.Body) == "hijack" {
				t.Errorf("%s%s reached the VM", host, path)
			}
		}
	}
	if n := len(vm.Requests()); n > 0 {
		t.Errorf("the VM got %d requests", n)
	}
}

// TestChallengePathOfOtherCertificates: with a file or local certificate the
// VM may have its reasons.
func TestChallengePathOfOtherCertificates(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("mine"))
	cert, key := peer.NewCA(t).Write(t.TempDir(), "site", "file.example")
	u := start(t, `[sites]
"local.test" = "http://%[1]s"
[sites."file.example"]
to = "http://%[1]s"
certificate = { cert = %[2]q, key = %[3]q }
[sites."shut.test"]
to = "http://%[1]s"
http = "refuse"`, vm.Addr, cert, key)
	for _, host := range []string{"local.test", "file.example", "shut.test"} {
		if p := u.Dial().Get(host, challenge); string(p.Body) != "mine" {
			t.Errorf("%s: %d %q", host, p.Status, p.Body)
		}
	}
}

// TestChallengesGoToOneVM: of several VMs the same one gets every challenge of
// a name, by either type, or an order begun on one would be asked of another.
func TestChallengesGoToOneVM(t *testing.T) {
	t.Parallel()
	both := func(l *peer.Link) {
		if b, _ := l.R.Peek(1); len(b) == 1 && b[0] == 22 {
			l.Say("tls")
			return
		}
		peer.Name("http")(l)
	}
	one := peer.ListenAt(t, "127.0.0.21:0", both)
	two := peer.ListenAt(t, "127.0.0.22:"+port(one.Addr), both)
	u := start(t, `[timeouts]
hold = "1s"
[sites."pass.test"]
to = ["passthrough://%s", "passthrough://%s"]
http_port = %d`, one.Addr, two.Addr, rig.Port(one.Addr))
	hello := string(rig.Hello(t, &tls.Config{ServerName: "pass.test", NextProtos: []string{"acme-tls/1"}}))
	ask := func() {
		t.Helper()
		for range 6 {
			if p := u.Dial().Get("pass.test", challenge); string(p.Body) != "http" {
				t.Fatalf("%d %q", p.Status, p.Body)
			}
			c := peer.Dial(t, u.HTTPS)
			c.Send(hello)
			c.WantExact("tls")
		}
	}
	ask()
	chosen, other := one, two
	if one.Accepted() == 0 {
		chosen, other = two, one
	}
	if n := other.Accepted(); n > 0 {
		t.Errorf("challenges were spread: %d and %d", chosen.Accepted(), n)
	}
	chosen.Down()
	ask() // the other one is the healthy one now
}

// TestChallengeHelloOfTerminated: acme-tls/1 without an order is refused, and
// no VM hears of it.
func TestChallengeHelloOfTerminated(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[acme]
directory = "https://127.0.0.1:9/dir"
[sites."aaaa.test"]
to = "http://%[1]s"
certificate = "acme"
[sites."local.test"]
to = "http://%[1]s"`, vm.Addr)
	u.TLS("local.test").Close()
	for _, host := range []string{"aaaa.test", "local.test", "none.test"} {
		if alert := u.Alert(&tls.Config{ServerName: host, NextProtos: []string{"acme-tls/1"}}); alert == 0 {
			t.Errorf("%s: an acme-tls/1 handshake went through", host)
		}
	}
	if vm.Accepted() > 0 {
		t.Error("the VM was reached")
	}
}
