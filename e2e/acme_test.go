package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// certified waits until a name is served with a certificate of the ACME server
// and returns a connection.
func certified(t testing.TB, u *rig.Usher, p *rig.Pebble, host string) *peer.Client {
	t.Helper()
	roots := p.Roots()
	var c *peer.Client
	rig.EventuallyWithin(t, time.Minute, host+" has its certificate", func() bool {
		got, err := peer.Dial(t, u.HTTPS).Handshake(&tls.Config{ServerName: host, RootCAs: roots})
		c = got
		return err == nil
	})
	return c
}

// TestACME: certificates by each challenge type, from a server that rejects
// some nonces, without another listening socket at any time.
func TestACME(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		noHTTP, deadTLS bool
	}{
		"HTTP-01":     {deadTLS: true},
		"TLS-ALPN-01": {noHTTP: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := peer.Listen(t, peer.Name("vm"))
			u := builds.Prepare(t, rig.Config{NoHTTP: c.noHTTP})
			httpPort, tlsPort := rig.Port(u.HTTP), rig.Port(u.HTTPS)
			if c.deadTLS {
				tlsPort = 9
			}
			p := builds.Pebble(t, rig.PebbleConfig{IP: u.IP, HTTP: httpPort, TLS: tlsPort, RetryAfter: 1})
			body := p.Section() + fmt.Sprintf("[sites]\n\"one.example.com\" = \"http://%[1]s\"\n\"two.example.com\" = \"http://%[1]s\"\n", vm.Addr)
			u.Write(t, body)
			u.Run()
			u.WaitReady()
			want := listening(t, u.PID())
			stop := watchListening(t, u, want)
			for _, host := range []string{"one.example.com", "two.example.com"} {
				if got := string(certified(t, u, p, host).Get(host, "/").Body); got != "vm" {
					t.Errorf("%s is answered by %q", host, got)
				}
			}
			stop()
			if byHTTP := strings.Contains(p.Log.String(), "validate w/ HTTP"); byHTTP == c.noHTTP {
				t.Errorf("validated by HTTP-01: %v", byHTTP)
			}
			if certs, _, _ := u.CLI("certs"); !strings.Contains(certs, "one.example.com") {
				t.Errorf("usher certs: %s", certs)
			}
			orders := strings.Count(p.Log.String(), "Added order")
			for range 3 { // a reload orders nothing again
				u.Reload(body + fmt.Sprintf("\"three.localhost\" = \"http://%s\"\n", vm.Addr))
				u.Reload(body)
			}
			restart(u)
			certified(t, u, p, "one.example.com")
			if n := strings.Count(p.Log.String(), "Added order"); n != orders {
				t.Errorf("%d orders became %d by reloading and restarting", orders, n)
			}
		})
	}
}

// restart stops the process and starts it again with what it has on disk.
func restart(u *rig.Usher) {
	u.Signal(syscall.SIGTERM)
	u.Exit(peer.Patience)
	u.Run()
	u.WaitReady()
}

// TestACMEFallback: when the first server does not answer, the next one is
// asked.
func TestACMEFallback(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := builds.Prepare(t, rig.Config{})
	p := builds.Pebble(t, rig.PebbleConfig{IP: u.IP, HTTP: rig.Port(u.HTTP), TLS: rig.Port(u.HTTPS), RetryAfter: 1})
	u.Write(t, fmt.Sprintf("[acme]\ndirectory = \"https://127.0.0.1:9/dir\"\nca_file = %q\nfallback = [%q]\n[sites]\n\"one.example.com\" = \"http://%s\"\n", p.CAFile, p.Directory, vm.Addr))
	u.Run()
	u.WaitReady()
	certified(t, u, p, "one.example.com")
}

// TestACMEBeside: a name added while serving gets its certificate, and the
// one that cannot is told why, without holding anybody up.
func TestACMEBeside(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := builds.Prepare(t, rig.Config{})
	p := builds.Pebble(t, rig.PebbleConfig{IP: u.IP, HTTP: rig.Port(u.HTTP), TLS: rig.Port(u.HTTPS), RetryAfter: 1})
	site := func(names ...string) string {
		body := p.Section() + "[sites]\n"
		for _, n := range names {
			body += fmt.Sprintf("%q = \"http://%s\"\n", n, vm.Addr)
		}
		return body
	}
	u.Write(t, site("host.localhost"))
	u.Run()
	u.WaitReady()
	u.TLS("host.localhost").Close()
	u.Reload(site("host.localhost", strings.Repeat("x", 63)+".blocked", "later.example.com"))
	certified(t, u, p, "later.example.com")
	if got := string(u.TLS("host.localhost").Get("host.localhost", "/").Body); got != "vm" {
		t.Errorf("the site beside: %q", got)
	}
}

// TestCertificateTrouble: usher certs says why there is none and when the next
// try is; other sites do not wait, nor does the start.
func TestCertificateTrouble(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	var body strings.Builder
	fmt.Fprintf(&body, "[acme]\ndirectory = \"https://127.0.0.1:9/dir\"\n[sites]\n\"host.localhost\" = \"http://%s\"\n", vm.Addr)
	for i := range 2000 {
		fmt.Fprintf(&body, "\"s%04d.example.com\" = \"http://%s\"\n", i, vm.Addr)
	}
	begin := time.Now()
	u := builds.Start(t, rig.Config{Body: body.String()})
	u.TLS("host.localhost").Close()
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("serving after %v", d)
	}
	if alert := u.Alert(&tls.Config{ServerName: "s0000.example.com"}); alert != alertInternalError {
		t.Errorf("a site without a certificate: alert %d", alert)
	}
	rig.Eventually(t, "usher certs says why and when", func() bool {
		out, _, _ := u.CLI("certs")
		return strings.Contains(out, "s1999.example.com") && strings.Contains(out, "refused") && strings.Contains(out, "next try")
	})
	u.Reload(body.String() + fmt.Sprintf("\"new.localhost\" = \"http://%s\"\n", vm.Addr))
	u.TLS("new.localhost").Close()
}

// listening is the set of addresses on which a process listens or, for UDP, is
// bound.
func listening(t testing.TB, pid int) map[string]bool {
	t.Helper()
	inodes, set := map[string]bool{}, map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if link, err := os.Readlink(filepath.Join(dir, fd.Name())); err == nil {
			inodes[strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")] = true
		}
	}
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile("/proc/net/" + proto)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			f := strings.Fields(l)
			if len(f) < 10 || !inodes[f[9]] || strings.HasPrefix(proto, "tcp") && f[3] != "0A" {
				continue
			}
			if f[2] == "00000000:0000" || strings.HasPrefix(proto, "tcp") { // a connected UDP socket is a DNS question
				set[proto+" "+f[1]] = true
			}
		}
	}
	return set
}

// watchListening looks again and again until the returned function is called,
// and fails when it ever sees another set.
func watchListening(t *testing.T, u *rig.Usher, want map[string]bool) (stop func()) {
	done, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			if got := listening(t, u.PID()); !maps.Equal(got, want) {
				t.Errorf("listening on %v, was %v", got, want)
				return
			}
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(done); <-ended })
	t.Cleanup(stop)
	return stop
}

// caddy runs Debian's Caddy as a VM that gets its own certificate by one
// challenge type only. It asks at once, so usher must know it by then.
func caddy(t *testing.T, p *rig.Pebble, ip, plain, secure, host, disable string) {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "Caddyfile")
	peer.Replace(t, conf, fmt.Appendf(nil, `{
	admin off
	http_port %d
	https_port %d
	default_bind %s
	storage file_system %s/storage
	skip_install_trust
}
%s {
	tls {
		issuer acme {
			dir %s
			trusted_roots %s
			email ops@example.com
			%s
		}
	}
	respond "caddy"
}
`, rig.Port(plain), rig.Port(secure), ip, dir, host, p.Directory, p.CAFile, disable))
	rig.Daemon(t, []string{"HOME=" + dir, "XDG_CONFIG_HOME=" + dir, "XDG_DATA_HOME=" + dir}, plain, rig.Find(t, "caddy"), "run", "--adapter", "caddyfile", "--config", conf)
}

// TestPassthroughVMGetsCertificate: a VM behind passthrough gets its own
// certificate through usher, once by each challenge type, while a terminated
// site beside it gets its own.
func TestPassthroughVMGetsCertificate(t *testing.T) {
	t.Parallel()
	for name, disable := range map[string]string{"HTTP-01": "disable_tlsalpn_challenge", "TLS-ALPN-01": "disable_http_challenge"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			vm := peer.Listen(t, peer.Name("vm"))
			u := builds.Prepare(t, rig.Config{})
			// No RetryAfter: this Caddy does not understand it as a date.
			p := builds.Pebble(t, rig.PebbleConfig{IP: u.IP, HTTP: rig.Port(u.HTTP), TLS: rig.Port(u.HTTPS)})
			ip := rig.LoopbackIP()
			plain, secure := rig.FreePort(t, ip), rig.FreePort(t, ip)
			u.Write(t, p.Section()+fmt.Sprintf(`[sites]
"own.example.com" = "http://%s"
[sites."vm.example.com"]
to = "passthrough://%s"
http_port = %d
`, vm.Addr, secure, rig.Port(plain)))
			u.Run()
			u.WaitReady()
			certified(t, u, p, "own.example.com")
			caddy(t, p, ip, plain, secure, "vm.example.com", disable)
			c := certified(t, u, p, "vm.example.com")
			if got := string(c.Get("vm.example.com", "/").Body); got != "caddy" {
				t.Errorf("answered by %q", got)
			}
			if err := c.Certificate().VerifyHostname("vm.example.com"); err != nil {
				t.Error(err)
			}
			if files, _ := filepath.Glob(filepath.Join(u.State, "*", "*", "*vm.example.com*")); len(files) > 0 {
				t.Errorf("usher keeps something for the VM's name: %v", files)
			}
		})
	}
}
