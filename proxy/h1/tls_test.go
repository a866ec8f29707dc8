package h1

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"usher/proxy/message"
)

func defaultDeadline() time.Time { return time.Now().Add(5 * time.Second) }

func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"x"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// secureScene is a scene with TLS on both sides: the client's connection and a
// function that gives the VM's end.
func secureScene(t *testing.T) (s *scene, client *tls.Conn, vm func() *tls.Conn) {
	t.Helper()
	s = newScene(t, &defaults)
	server := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "x"}
	front := tls.Server(s.ours, server)
	client = tls.Client(s.client, config)
	handshake(t, front, client)
	s.conn = NewConn(&defaults, front, s.ours, &message.Client{TLS: true, Proto: message.HTTP1}, s.relay)
	vms := make(chan *tls.Conn, 4)
	s.relay.dial = func() *VM {
		near, far := pair(t)
		ours, theirs := tls.Client(Announced(near), config), tls.Server(far, server)
		handshake(t, ours, theirs)
		vms <- theirs
		return NewVM(ours, near)
	}
	return s.start(), client, func() *tls.Conn { return <-vms }
}

func handshake(t *testing.T, a, b *tls.Conn) {
	t.Helper()
	done := make(chan error)
	go func() { done <- a.HandshakeContext(context.Background()) }()
	if err := b.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestOverTLS(t *testing.T) {
	s, client, vmOf := secureScene(t)
	var vm *tls.Conn
	for range 3 {
		write(t, client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if vm == nil {
			vm = vmOf()
		}
		expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
		expect(t, client, "HTTP/1.1 200 OK\r\n"+date+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	go sendBody(client, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n", data, true)
	readHead(t, vm)
	if got, _, _, err := decode(vm, 5000); err != io.EOF || got != string(data) {
		t.Fatalf("the VM got %d bytes (%v)", len(got), err)
	}
	go sendBody(vm, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", data, true)
	readHead(t, client)
	if got, _, rest, err := decode(client, 5000); err != io.EOF || got != string(data) || rest > 0 {
		t.Fatalf("the client got %d bytes (%v)", len(got), err)
	}
	expectEnd(t, client) // close_notify, or Read would fail
	if err := <-s.served; err != nil {
		t.Error(err)
	}
}

func TestUpgradeOverTLS(t *testing.T) {
	s, client, vmOf := secureScene(t)
	head := "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\n"
	write(t, client, head+"early")
	vm := vmOf()
	expect(t, vm, head)
	write(t, vm, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\nhello")
	expect(t, vm, "early")
	readHead(t, client)
	expect(t, client, "hello")
	client.CloseWrite()
	expectEnd(t, vm)
	write(t, vm, "late")
	expect(t, client, "late")
	vm.Close()
	expectEnd(t, client)
	if err := <-s.served; err != ErrUpgraded {
		t.Error(err)
	}
}

func TestBrokenOverTLSHasNoCloseNotify(t *testing.T) {
	_, client, vmOf := secureScene(t)
	write(t, client, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
	vm := vmOf()
	readHead(t, vm)
	write(t, vm, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
	vm.Close()
	if got, err := io.ReadAll(client); err == nil {
		t.Errorf("got %q and an orderly end", got)
	}
}

func TestRefusalOverTLS(t *testing.T) {
	_, client, _ := secureScene(t)
	write(t, client, "GET / HTTP/1.1\r\n\r\n"+strings.Repeat("x", 1000))
	got, err := io.ReadAll(client)
	if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 400 ")) {
		t.Errorf("got %q (%v), want a 400 and close_notify", got, err)
	}
}
