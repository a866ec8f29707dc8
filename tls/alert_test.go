package tls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	crypto "crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"usher/tls"
)

// TestWriteAlert asks crypto/tls what it understood, before and after TLS 1.3.
func TestWriteAlert(t *testing.T) {
	for _, alert := range []tls.Alert{tls.DecodeError, tls.InternalError, tls.UnrecognizedName} {
		for _, version := range []uint16{crypto.VersionTLS12, crypto.VersionTLS13} {
			c, client := peekPair(t)
			if err := tls.WriteAlert(c, alert); err != nil {
				t.Fatal(err)
			}
			c.CloseWrite()
			err := crypto.Client(client, &crypto.Config{ServerName: "example.com", MaxVersion: version}).Handshake()
			want := "remote error: " + crypto.AlertError(alert).Error()
			if err == nil || err.Error() != want {
				t.Errorf("%v: %v, want %s", alert, err, want)
			}
		}
	}
	c, _ := peekPair(t)
	c.Close()
	if err := tls.WriteAlert(c, tls.DecodeError); err == nil {
		t.Error("written to a closed socket")
	}
}

func TestAlertNames(t *testing.T) {
	for alert, want := range map[tls.Alert]string{50: "decode_error", 80: "internal_error", 112: "unrecognized_name", 40: "alert 40"} {
		if got := fmt.Sprint(alert); got != want {
			t.Errorf("%d is %s, want %s", uint8(alert), got, want)
		}
	}
}

// selfSigned makes a certificate for name.
func selfSigned(t *testing.T, name string) crypto.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}}
	der, err2 := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	return crypto.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
