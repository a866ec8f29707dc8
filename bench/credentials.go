package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"usher/bench/load"
)

// credentials writes the certificate that every proxy shows, ECDSA P-256, and
// the ClientHellos of the tunnels.
func (l *lab) credentials() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: load.Name}, DNSNames: []string{load.Name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	l.cert, l.key, l.both = filepath.Join(l.dir, "cert.pem"), filepath.Join(l.dir, "key.pem"), filepath.Join(l.dir, "both.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
	for path, text := range map[string][]byte{l.cert: cert, l.key: private, l.both: append(cert, private...)} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return err
		}
	}
	l.openssl = filepath.Join(l.dir, "openssl.cnf")
	if err := os.WriteFile(l.openssl, []byte(opensslClient), 0o600); err != nil {
		return err
	}
	for _, name := range []string{load.OnceName, load.AskName} {
		hello, err := clientHello(name)
		if err != nil {
			return err
		}
		l.hellos[name] = filepath.Join(l.dir, "hello-"+name)
		if err := os.WriteFile(l.hellos[name], hello, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// opensslClient has a client of OpenSSL offer what ours do, so that all proxies
// do the same work: TLS 1.3, X25519, AES-128-GCM.
const opensslClient = `openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = client
[client]
Ciphersuites = TLS_AES_128_GCM_SHA256
Groups = X25519
MinProtocol = TLSv1.3
`

// clientHello is the first record of a client of today, with the key share for
// a post-quantum exchange.
func clientHello(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		tls.Client(client, &tls.Config{ServerName: name, NextProtos: []string{"h2", "http/1.1"}}).Handshake()
		client.Close()
	}()
	head := make([]byte, 5)
	if _, err := io.ReadFull(server, head); err != nil {
		return nil, err
	}
	hello := append(head, make([]byte, int(head[3])<<8|int(head[4]))...)
	_, err := io.ReadFull(server, hello[5:])
	return hello, err
}
