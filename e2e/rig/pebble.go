package rig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"usher/e2e/peer"
)

// Pebble is an ACME server for which every name is at one address.
type Pebble struct {
	Directory string // URL
	CAFile    string // what its own HTTPS is verified with
	Log       *Output

	t          testing.TB
	management string
	https      *http.Client
}

// PebbleConfig is where the server looks for every name.
type PebbleConfig struct {
	IP         string
	HTTP, TLS  uint16 // ports of HTTP-01 and TLS-ALPN-01
	RetryAfter int    // seconds that it asks clients to wait, in one notation or the other; 0 for no word
}

// Pebble starts the ACME server. It rejects some nonces to keep its clients
// honest.
func (b *Builds) Pebble(t testing.TB, c PebbleConfig) *Pebble {
	t.Helper()
	dir, own := t.TempDir(), LoopbackIP()
	ca := peer.NewCA(t)
	cert, key := ca.Write(dir, "pebble", own)
	p := &Pebble{CAFile: filepath.Join(dir, "ca.pem"), t: t, management: FreePort(t, own)}
	peer.Replace(t, p.CAFile, ca.PEM)
	p.https = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool}, DisableKeepAlives: true}}
	listen := FreePort(t, own)
	p.Directory = "https://" + listen + "/dir"
	conf := filepath.Join(dir, "pebble.json")
	text, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": p.management,
		"certificate": cert, "privateKey": key, "httpPort": c.HTTP, "tlsPort": c.TLS,
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": c.RetryAfter, "order": c.RetryAfter},
	}})
	if err != nil {
		t.Fatal(err)
	}
	peer.Replace(t, conf, text)
	env := []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=30", "PEBBLE_AUTHZREUSE=0"}
	p.Log = Daemon(t, env, listen, b.pebble(t), "-config", conf, "-dnsserver", names(t, c.IP))
	return p
}

// Roots is what the certificates of this server are verified with.
func (p *Pebble) Roots() *x509.CertPool {
	p.t.Helper()
	r, err := p.https.Get(fmt.Sprintf("https://%s/roots/0", p.management))
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	b, _ := io.ReadAll(r.Body)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		p.t.Fatalf("no root in %q", b)
	}
	return pool
}

// Section is [acme] for it.
func (p *Pebble) Section() string {
	return fmt.Sprintf("[acme]\ndirectory = %q\nca_file = %q\n", p.Directory, p.CAFile)
}
