package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestLocalCA: names that no public CA certifies get a certificate from
// usher's own, whose root is where usher certs says and stays what it is.
func TestLocalCA(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites]
"aaaa.test" = "http://%[1]s"
"box" = "http://%[1]s"
"nas.local" = "http://%[1]s"
"nas.home.arpa" = "http://%[1]s"
"app.internal" = "http://%[1]s"
"sub.localhost" = "http://%[1]s"
[sites."*.wild.test"]
to = "http://%[1]s"
[sites."public.example.com"]
to = "http://%[1]s"
certificate = "local"`, vm.Addr)
	for _, host := range []string{"aaaa.test", "box", "nas.local", "nas.home.arpa", "app.internal", "sub.localhost", "x.wild.test", "public.example.com"} {
		c := u.TLS(host)
		leaf := c.Certificate()
		if err := leaf.VerifyHostname(host); err != nil {
			t.Error(err)
		}
		if life := leaf.NotAfter.Sub(leaf.NotBefore); life > 398*24*time.Hour || leaf.IsCA {
			t.Errorf("%s: a certificate for %v, CA: %v", host, life, leaf.IsCA)
		}
		if got := string(c.Get(host, "/").Body); got != "vm" {
			t.Errorf("%s: %q", host, got)
		}
	}
	path := rootFile(t, u)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	restart(u)
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the root is another one after a restart")
	}
	block, _ := pem.Decode(before)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	u.TLSWith(&tls.Config{ServerName: "aaaa.test", RootCAs: pool})
	wantPrivate(t, u)
}

// wantPrivate fails when a private key can be read by others.
func wantPrivate(t *testing.T, u *rig.Usher) {
	t.Helper()
	for _, f := range files(t, u.State) {
		b, _ := os.ReadFile(f)
		info, err := os.Stat(f)
		if err == nil && strings.Contains(string(b), "PRIVATE KEY") && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s is readable by others: %v", f, info.Mode())
		}
	}
}

// TestFileCertificate: a certificate file that changes is taken, a faulty one
// is not, and nobody's connection is cut.
func TestFileCertificate(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	first, second, dir := peer.NewCA(t), peer.NewCA(t), t.TempDir()
	cert, key := first.Write(dir, "site", "file.test")
	u := start(t, `[sites."file.test"]
to = "http://%s"
certificate = { cert = %q, key = %q }`, vm.Addr, cert, key)
	conf := func(ca *peer.CA) *tls.Config { return &tls.Config{ServerName: "file.test", RootCAs: ca.Pool} }
	kept := u.TLSWith(conf(first))
	second.Write(dir, "site", "file.test")
	rig.EventuallyWithin(t, 10*time.Second, "the new certificate is shown", func() bool {
		_, err := peer.Dial(t, u.HTTPS).Handshake(conf(second))
		return err == nil
	})
	if got := string(kept.Get("file.test", "/").Body); got != "vm" {
		t.Errorf("a connection from before: %q", got)
	}
	peer.Replace(t, cert, []byte("nonsense"))
	u.CLI("reload")
	u.TLSWith(conf(second))
	second.Write(dir, "site", "file.test")
	u.CLI("reload")
	u.TLSWith(conf(second))
}

// TestWildcardNeedsDNS: a terminated wildcard without a word on its
// certificate is an error that says why.
func TestWildcardNeedsDNS(t *testing.T) {
	t.Parallel()
	u := builds.Prepare(t, rig.Config{Body: "[sites]\n\"*.example.com\" = \"http://10.0.0.1\"\n\"*\" = \"http://10.0.0.1\""})
	out, errs, code := u.CLI("check")
	if code != 1 || strings.Count(out+errs, "DNS-01") < 2 {
		t.Errorf("%d %s%s", code, out, errs)
	}
}

// TestResumption: sessions are resumed on a site and never across sites.
func TestResumption(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites]
"aaaa.test" = "http://%[1]s"
"bbbb.test" = "http://%[1]s"`, vm.Addr)
	u.TLS("aaaa.test").Close()
	u.TLS("bbbb.test").Close()
	cache := &shared{tls.NewLRUClientSessionCache(10)}
	for i, step := range []struct {
		host    string
		resumed bool
	}{{"aaaa.test", false}, {"aaaa.test", true}, {"bbbb.test", false}} {
		c := u.TLSWith(&tls.Config{ServerName: step.host, ClientSessionCache: cache, InsecureSkipVerify: true})
		c.Get(step.host, "/") // the ticket comes with the first bytes
		state := c.Conn.(*tls.Conn).ConnectionState()
		if state.DidResume != step.resumed {
			t.Errorf("step %d, %s: resumed %v", i, step.host, state.DidResume)
		}
		if err := state.PeerCertificates[0].VerifyHostname(step.host); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
		c.Close()
	}
}

// shared is a session cache that offers every ticket to every host.
type shared struct{ tls.ClientSessionCache }

func (s *shared) Get(string) (*tls.ClientSessionState, bool) { return s.ClientSessionCache.Get("any") }

func (s *shared) Put(_ string, c *tls.ClientSessionState) { s.ClientSessionCache.Put("any", c) }

// TestTLSVersions: 1.2 and 1.3 and nothing older.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[sites]
"aaaa.test" = "http://%s"`, vm.Addr)
	u.TLS("aaaa.test").Close()
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		_, err := peer.Dial(t, u.HTTPS).Handshake(&tls.Config{ServerName: "aaaa.test", RootCAs: u.Roots(), MinVersion: version, MaxVersion: version})
		if (err == nil) != ok {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	l := u.TLS("aaaa.test")
	l.Get("aaaa.test", "/logged")
	line := u.Line(t, "the request", func(l rig.Line) bool { return l.Text("path") == "/logged" })
	if fmt.Sprint(line["tls_version"]) == "" || line.Text("tls_cipher") == "" {
		t.Errorf("log line without TLS version and cipher: %v", line)
	}
}

// TestStrictTransport: the field is there where it was asked for, on TLS only.
func TestStrictTransport(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := start(t, `[defaults]
http = "forward"
[sites."on.test"]
to = "http://%[1]s"
hsts = true
[sites."off.test"]
to = "http://%[1]s"`, vm.Addr)
	const field = "Strict-Transport-Security"
	if v := u.TLS("on.test").Get("on.test", "/").Header.Get(field); !strings.HasPrefix(v, "max-age=") {
		t.Errorf("on: %q", v)
	}
	if u.TLS("off.test").Get("off.test", "/").Header.Has(field) || u.Dial().Get("on.test", "/").Header.Has(field) {
		t.Error("sent where nobody asked")
	}
}
