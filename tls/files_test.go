package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"
)

// writePair writes a self-signed certificate for the names.
func writePair(t *testing.T, certFile, keyFile string, names ...string) *x509.Certificate {
	t.Helper()
	return writeTemplate(t, certFile, keyFile, &x509.Certificate{NotAfter: time.Now().Add(90 * day)}, names...)
}

func writeTemplate(t *testing.T, certFile, keyFile string, template *x509.Certificate, names ...string) *x509.Certificate {
	t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template.SerialNumber, template.NotBefore = newSerial(), time.Now().Add(-time.Hour)
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	put := func(file, kind string, der []byte) {
		if err := writeFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})); err != nil {
			t.Fatal(err)
		}
	}
	put(keyFile, "PRIVATE KEY", keyDER)
	put(certFile, "CERTIFICATE", der)
	leaf, _ := x509.ParseCertificate(der)
	return leaf
}

func fileWant(host, cert, key string) Want {
	return Want{Host: host, Kind: KindFile, CertFile: cert, KeyFile: key}
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	first := writePair(t, cert, key, "a.test", "b.test")
	e := newEdge(t, dir)
	e.apply(fileWant("a.test", cert, key), fileWant("b.test", cert, key))
	if now := e.shownFor("a.test"); now == nil || !now.Equal(first) {
		t.Fatal("not shown before anything runs")
	}
	e.start()
	second := writePair(t, cert, key, "a.test", "b.test")
	e.eventually("the new one is shown", func() bool { return e.shownFor("b.test").Equal(second) })

	if err := os.WriteFile(cert, []byte("half a cert"), 0o600); err != nil {
		t.Fatal(err)
	}
	e.eventually("the broken one is noticed", func() bool { return e.statusOf("a.test").State == Expiring })
	if st := e.statusOf("a.test"); !strings.Contains(st.Reason, cert) {
		t.Errorf("%+v", st)
	}
	if !e.shownFor("a.test").Equal(second) || !strings.Contains(e.log.String(), "certificate file cannot be used") {
		t.Error("the old one is not kept, or nothing is said")
	}
	third := writePair(t, cert, key, "a.test", "b.test")
	e.apply(fileWant("a.test", cert, key)) // looks at once
	e.eventually("the good one is shown", func() bool { return e.shownFor("a.test").Equal(third) })
	if st := e.statusOf("a.test"); st.State != Valid || !st.NotAfter.Equal(e.Expiry("a.test")) {
		t.Errorf("%+v", st)
	}
}

func TestFileTroubleIsTold(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	old, oldKey := filepath.Join(dir, "old.pem"), filepath.Join(dir, "old.key")
	writePair(t, cert, key, "a.test")
	writeTemplate(t, old, oldKey, &x509.Certificate{NotAfter: time.Now().Add(-time.Minute)}, "old.test")
	e := newEdge(t, dir)
	e.apply(fileWant("b.test", cert, key), fileWant("old.test", old, oldKey), fileWant("none.test", "/no/cert", "/no/key"))
	e.start()
	e.eventually("all is read", func() bool {
		return e.statusOf("none.test").State == Failed && e.statusOf("old.test").State == Expired &&
			strings.Contains(e.statusOf("b.test").Reason, "not b.test")
	})
	if e.shownFor("old.test") == nil {
		t.Error("an expired file is not shown")
	}
}

func TestOCSPResponsesAreStapled(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	var ca *x509.Certificate
	var signer *ecdsa.PrivateKey
	responder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked, err := ocsp.ParseRequest(body)
		if err != nil {
			t.Error(err)
			return
		}
		answer, err := ocsp.CreateResponse(ca, ca, ocsp.Response{
			Status: ocsp.Good, SerialNumber: asked.SerialNumber,
			ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(day),
		}, signer)
		if err != nil {
			t.Error(err)
		}
		w.Write(answer)
	}))
	defer responder.Close()

	a := newACMEServer(t)
	ca, signer = a.ca, a.key
	leafKey, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := leafTemplate("a.test")
	template.OCSPServer = []string{responder.URL}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, leafKey.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(leafKey)
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	if err := os.WriteFile(cert, chain, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, dir)
	e.apply(fileWant("a.test", cert, key))
	if !e.Has("a.test") {
		t.Fatal("no certificate")
	}
	e.start()
	e.eventually("the response is stapled", func() bool {
		state, err := e.dial(&cryptotls.Config{ServerName: "a.test", RootCAs: certPool(ca)})
		if err != nil {
			t.Fatal(err)
		}
		response, err := ocsp.ParseResponse(state.OCSPResponse, ca)
		return err == nil && response.Status == ocsp.Good
	})
}
