package h1

import (
	"crypto/tls"
	"io"
	"strings"
	"testing"
)

// TestTLSEndWithoutNotice: anybody on the way can send a FIN. A body that ends
// with the connection is whole only if the VM said so (RFC 9112 section 9.8).
func TestTLSEndWithoutNotice(t *testing.T) {
	for _, announced := range []bool{true, false} {
		s, client, vmOf := secureScene(t)
		write(t, client, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		vm := vmOf()
		expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"\r\nhello")
		if announced {
			vm.CloseWrite()
		}
		vm.NetConn().Close()
		client.SetReadDeadline(defaultDeadline())
		got, err := io.ReadAll(client)
		whole := strings.HasSuffix(string(got), "5\r\nhello\r\n0\r\n\r\n")
		if whole != announced || announced != (err == nil) {
			t.Errorf("announced %v: got %q (%v)", announced, got, err)
		}
		s.client.Close()
	}
}

// TestUpgradedTLSEndWithoutNotice: what a tunnel carries has its own end.
func TestUpgradedTLSEndWithoutNotice(t *testing.T) {
	near, far := pair(t)
	server := &tls.Config{Certificates: []tls.Certificate{certificate(t)}}
	ours := tls.Client(Announced(near), &tls.Config{InsecureSkipVerify: true})
	theirs := tls.Server(far, server)
	handshake(t, ours, theirs)
	d := &duplex{rw: ours, wire: near}
	write(t, theirs, "bytes")
	far.Close()
	if got, err := io.ReadAll(d); string(got) != "bytes" || err != nil {
		t.Errorf("got %q (%v)", got, err)
	}
	d.Close()
}
