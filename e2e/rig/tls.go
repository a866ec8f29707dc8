package rig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"time"

	"usher/e2e/peer"
)

// alertInternal is what a site without a certificate answers.
const alertInternal = 80

// TLS connects to the TLS listener as a client of host that trusts usher's own
// CA. It waits for a certificate that is still being made.
func (u *Usher) TLS(host string) *peer.Client {
	u.t.Helper()
	return u.TLSWith(&tls.Config{ServerName: host})
}

// TLSWith is TLS with a configuration; without roots of its own it trusts
// usher's CA.
func (u *Usher) TLSWith(conf *tls.Config) *peer.Client {
	u.t.Helper()
	deadline := time.Now().Add(peer.Patience)
	for {
		c := conf.Clone()
		if c.RootCAs == nil && !c.InsecureSkipVerify {
			c.RootCAs = u.Roots()
		}
		client, err := peer.Dial(u.t, u.HTTPS).Handshake(c)
		if err == nil {
			return client
		}
		var unknown x509.UnknownAuthorityError // the CA is being made, too
		young := alertOf(err) == alertInternal || errors.As(err, &unknown)
		if !young || time.Now().After(deadline) {
			u.t.Fatalf("handshake for %q: %v", conf.ServerName, err)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// Roots holds every CA certificate in the state directory.
func (u *Usher) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	filepath.WalkDir(u.State, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		b, _ := os.ReadFile(path)
		for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.IsCA {
				pool.AddCert(c)
			}
		}
		return nil
	})
	return pool
}

// Alert connects with a configuration and returns the alert that ends the
// handshake, or 0.
func (u *Usher) Alert(conf *tls.Config) uint8 {
	u.t.Helper()
	conf = conf.Clone()
	conf.InsecureSkipVerify = true
	_, err := peer.Dial(u.t, u.HTTPS).Handshake(conf)
	if alertOf(err) == 0 {
		u.t.Logf("handshake for %q: %v", conf.ServerName, err)
	}
	return alertOf(err)
}

// alertOf is the number of the alert that the other side sent. crypto/tls has
// no name for its type, which is a number.
func alertOf(err error) uint8 {
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return 0
	}
	if v := reflect.ValueOf(remote.Err); v.Kind() == reflect.Uint8 {
		return uint8(v.Uint())
	}
	return 0
}
