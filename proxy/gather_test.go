package proxy

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/socket"
)

func testCertificate(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// socketPair is a Socket and its far end.
func socketPair(t *testing.T) (*socket.Socket, *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s := socket.New(fds[0], netip.AddrPort{}, netip.AddrPort{})
	f := os.NewFile(uintptr(fds[1]), "far")
	t.Cleanup(func() { s.Close(); f.Close() })
	return s, f
}

func handshaken(t *testing.T) (*gathering, *tls.Conn, *socket.Socket) {
	t.Helper()
	s, f := socketPair(t)
	far, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	server := newGathering(socket.NewRecords(s), &tls.Config{Certificates: []tls.Certificate{testCertificate(t)}})
	client := tls.Client(far, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	return server, client, s
}

// TestGatheringWrites has writes of all sizes arrive whole and in order.
func TestGatheringWrites(t *testing.T) {
	server, client, _ := handshaken(t)
	sizes := []int{1, 1000, 1 << 10, 1<<10 + 1, 5000, 16 << 10, 16<<10 + 1, 64 << 10, 300 << 10, 10, 16 << 10, 128 << 10}
	var want, all []byte
	for _, n := range sizes {
		piece := make([]byte, n)
		rand.Read(piece)
		want = append(want, piece...)
		all = append(append(append(all, piece...), "head"...), make([]byte, n)...)
	}
	written := make(chan error, 1)
	go func() {
		rest := want
		for _, n := range sizes {
			if m, err := server.Write(rest[:n]); m != n || err != nil {
				written <- errors.Join(err, io.ErrShortWrite)
				return
			}
			rest = rest[n:]
			sent, err := server.WriteBuffers(nil, []byte("head"), make([]byte, n), nil)
			if sent != int64(4+n) || err != nil {
				written <- errors.Join(err, io.ErrShortWrite)
				return
			}
		}
		written <- server.CloseWrite()
	}()
	got, err := io.ReadAll(client)
	if err != nil || !bytes.Equal(got, all) {
		t.Errorf("%d bytes, want %d; %v", len(got), len(all), err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if server.out.held != nil || server.out.holding {
		t.Error("something is still held back")
	}
}

// TestGatheringFails has a write that fails, after which a record may be cut:
// nothing may follow it.
func TestGatheringFails(t *testing.T) {
	server, _, s := handshaken(t)
	s.SetWriteTimeout(50 * time.Millisecond)
	big := make([]byte, 8<<20)
	if _, err := server.Write(big); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("a write that nobody reads: %v", err)
	}
	s.SetWriteTimeout(0)
	for _, n := range []int{1, 64 << 10} {
		if _, err := server.Write(big[:n]); err == nil {
			t.Errorf("%d bytes were written after a record that was cut", n)
		}
	}
}
