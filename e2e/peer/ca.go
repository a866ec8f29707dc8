package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA certifies the VMs and the file certificates of a test.
type CA struct {
	Pool *x509.CertPool
	PEM  []byte

	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes a CA.
func NewCA(t testing.TB) *CA {
	t.Helper()
	key := newKey(t)
	c := &CA{Pool: x509.NewCertPool(), t: t, key: key}
	der := c.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}, key)
	c.cert, _ = x509.ParseCertificate(der)
	c.Pool.AddCert(c.cert)
	c.PEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return c
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (c *CA) sign(tmpl *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	c.t.Helper()
	tmpl.SerialNumber, _ = rand.Int(rand.Reader, big.NewInt(1<<62))
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(90*24*time.Hour)
	parent := c.cert
	if parent == nil {
		parent = tmpl
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return der
}

// Issue makes a certificate for names and IP addresses.
func (c *CA) Issue(names ...string) tls.Certificate {
	c.t.Helper()
	key := newKey(c.t)
	tmpl := &x509.Certificate{Subject: pkix.Name{CommonName: names[0]}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
			continue
		}
		tmpl.DNSNames = append(tmpl.DNSNames, n)
	}
	return tls.Certificate{Certificate: [][]byte{c.sign(tmpl, key)}, PrivateKey: key}
}

// Server is a TLS configuration with a certificate for names.
func (c *CA) Server(names ...string) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.Issue(names...)}}
}

// Write stores a certificate for names in dir and returns the two paths.
func (c *CA) Write(dir, base string, names ...string) (cert, key string) {
	c.t.Helper()
	pair := c.Issue(names...)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, key = filepath.Join(dir, base+".pem"), filepath.Join(dir, base+".key")
	Replace(c.t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	Replace(c.t, cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	return cert, key
}

// Replace writes a file beside path and renames it over, as careful tools do.
func Replace(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}
