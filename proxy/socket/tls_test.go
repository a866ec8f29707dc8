package socket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"os"
	"sync"
	"testing"
	"time"
)

func certificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"vm.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestUnderTLS(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	server := tls.Server(s, &tls.Config{Certificates: []tls.Certificate{certificate(t)}})
	client := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	var peer sync.WaitGroup
	peer.Go(func() {
		data := make([]byte, 4<<20)
		client.Write(data)
		io.CopyN(io.Discard, client, int64(len(data)))
		time.Sleep(20 * time.Millisecond)
		client.Write([]byte("late"))
		client.Close()
	})
	if _, err := io.CopyN(server, server, 4<<20); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(time.Millisecond))
	b := make([]byte, 10)
	if _, err := server.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	server.SetReadDeadline(time.Time{}) // the deadline has broken nothing
	if n, err := io.ReadFull(server, b[:4]); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if _, err := server.Read(b); err != io.EOF {
		t.Fatalf("err = %v", err)
	}
	peer.Wait()
	server.Close()
}
