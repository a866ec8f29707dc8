package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"usher/server/admin"
)

// alertOf is how a handshake for a name is refused; empty when it succeeds.
func (e *edge) alertOf(name string) string {
	e.t.Helper()
	c, err := tls.Dial("tcp", e.address("https"), &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if err != nil {
		return err.Error()
	}
	c.Close()
	return ""
}

// secure is the status of https://name/.
func (e *edge) secure(name string) int {
	e.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: name}}
	req, err := http.NewRequest("GET", "https://"+e.address("https")+"/", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	req.Host = name
	answer, err := tr.RoundTrip(req)
	if err != nil {
		e.t.Errorf("https://%s: %v", name, err)
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

const internalError = "remote error: tls: internal error"

// TestFaultInANewSite wants 503 where it can be given, else internal_error.
func TestFaultInANewSite(t *testing.T) {
	e := newEdge(t, `"good.test" = "whoami://"`)
	writePair(t, e.path("pair"), "file.test")
	e.write(`http = ["127.0.0.1:0"]`, fmt.Sprintf(`"good.test" = "whoami://"
"through.test" = "passthrough://bad host"
"file.test" = { to = "http://bad host", certificate = { cert = %[1]q, key = %[1]q } }
"nofile.test" = { to = "whoami://", certificate = { cert = "none", key = "none" } }
"local.test" = { to = "http://bad host", certificate = "local" }
"acme.test" = { to = "http://bad host", certificate = "acme" }
`, e.path("pair")))
	r := e.reload()
	for _, host := range []string{"through.test", "file.test", "nofile.test", "local.test", "acme.test"} {
		if got := e.get(host, "/").StatusCode; got != 503 {
			t.Errorf("%s on port 80: %d", host, got)
		}
		if got := e.state(host).State; got != admin.Faulty {
			t.Errorf("%s is %q", host, got)
		}
	}
	for _, host := range []string{"through.test", "nofile.test", "acme.test"} {
		if got := e.alertOf(host); got != internalError {
			t.Errorf("%s: %q", host, got)
		}
	}
	for host, want := range map[string]int{"file.test": 503, "local.test": 503, "good.test": 200} {
		if got := e.secure(host); got != want {
			t.Errorf("https://%s: %d", host, got)
		}
	}
	if len(r.Problems) < 5 {
		t.Errorf("problems: %v", r.Problems)
	}
}

// TestFaultInALiveSite wants its last good form until the fault or the site is
// gone.
func TestFaultInALiveSite(t *testing.T) {
	vm := newSlowVM(t)
	close(vm.answer)
	good := vm.forward("a.test")
	e := newEdge(t, good)
	bad := `"a.test" = { to = "http://bad host", http = "forward" }`
	for _, step := range []struct {
		what, sites, state string
		status             int
	}{
		{"live", good, admin.Live, 200},
		{"fault", bad, admin.Stale, 200},
		{"another site beside it", bad + "\n\"b.test\" = \"whoami://\"", admin.Stale, 200},
		{"another fault", `"a.test" = "passthrough://bad host"` + "\n\"b.test\" = \"whoami://\"", admin.Stale, 200},
		{"good again", good + "\"b.test\" = \"whoami://\"", admin.Live, 200},
		{"fault again", bad + "\n\"b.test\" = \"whoami://\"", admin.Stale, 200},
		{"removed", `"b.test" = "whoami://"`, "", 404},
		{"back with its fault", bad + "\n\"b.test\" = \"whoami://\"", admin.Faulty, 503},
	} {
		e.write(`http = ["127.0.0.1:0"]`, step.sites)
		e.reload()
		if got := e.state("a.test").State; got != step.state {
			t.Errorf("%s: %q", step.what, got)
		}
		if got := e.get("a.test", "/").StatusCode; got != step.status {
			t.Errorf("%s: %d", step.what, got)
		}
	}
}

// TestRefusedFileChangesNothing tries what concerns the whole file.
func TestRefusedFileChangesNothing(t *testing.T) {
	e := newEdge(t, `"a.test" = "whoami://"`)
	taken := e.address("http")
	for what, file := range map[string][2]string{
		"syntax":               {`http = ["127.0.0.1:0"]`, `"a.test" = `},
		"unknown key":          {`http = ["127.0.0.1:0"]` + "\nhtps = []", `"a.test" = "whoami://"`},
		"a host spelled twice": {`http = ["127.0.0.1:0"]`, "\"a.test\" = \"whoami://\"\n\"A.test.\" = \"whoami://\""},
		"a taken address":      {fmt.Sprintf("http = [%q]", taken), `"a.test" = "whoami://"`},
		"no sites any more":    {`http = ["127.0.0.1:0"]`, ""},
	} {
		e.write(file[0], file[1])
		if r := e.Reload(e.work, false); r.Refused == "" {
			t.Errorf("%s was taken", what)
		}
		if got := e.Status().Refused; got == "" {
			t.Errorf("%s: the status does not say so", what)
		}
		if got := e.address("http"); got != taken || len(e.Sites()) != 1 {
			t.Errorf("%s: it listens on %s and has %v", what, got, e.Sites())
		}
	}
	if got := e.get("a.test", "/").StatusCode; got != 308 {
		t.Errorf("the site answers %d", got)
	}
	if e.listeners.has(netipOf(t, "127.0.0.9:1")) {
		t.Error("a stranger's address is our own")
	}
}

// writePair writes a certificate for a name and its key into one file.
func writePair(t *testing.T, file, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: der})
	pem.Encode(&b, &pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
