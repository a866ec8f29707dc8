package tls13

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// serve answers each connection with what it read, once, and closes.
func serve(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			var p [100]byte
			n, _ := c.Read(p[:])
			c.Write(p[:n])
			c.Close()
		}
	}()
	return l.Addr().String()
}

// exchange sends text through a connection, in pieces of the given size, and
// returns what came back.
func exchange(t *testing.T, addr string, c *Conn, text string, piece int) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	conn.Write(c.Hello())
	var got []byte
	p := make([]byte, piece)
	for {
		n, err := conn.Read(p)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		reply, err := c.Receive(p[:n], func(data []byte) { got = append(got, data...) })
		if err != nil {
			t.Fatal(err)
		}
		if reply != nil {
			conn.Write(c.Seal(reply, []byte(text)))
		}
	}
	if !c.Closed {
		t.Error("no close_notify")
	}
	return string(got)
}

func TestFullAndResumed(t *testing.T) {
	addr := serve(t)
	full, err := New("localhost")
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []int{1, 7, 16 << 10} {
		first := full.Conn(true)
		if got := exchange(t, addr, first, "hello", piece); got != "hello" || first.Resumed {
			t.Errorf("got %q, resumed %v", got, first.Resumed)
		}
		if first.Session == nil {
			t.Fatal("no session")
		}
		again := full.Resume("localhost", first.Session)
		for range 2 { // a session serves many connections
			second := again.Conn(false)
			if got := exchange(t, addr, second, "again", piece); got != "again" || !second.Resumed {
				t.Errorf("got %q, resumed %v", got, second.Resumed)
			}
		}
	}
}

func BenchmarkHandshake(b *testing.B) {
	t, err := New("localhost")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c := t.Conn(false)
		secret, _ := t.share.ECDH(t.share.PublicKey())
		c.handshake = extract(c.t.early, secret)
		c.clientHS = derive(c.handshake, "c hs traffic", sum(c.transcript))
		c.clientKeys, _ = newKeys(c.clientHS)
		c.serverKeys, _ = newKeys(derive(c.handshake, "s hs traffic", sum(c.transcript)))
		if _, err := c.finished(); err != nil {
			b.Fatal(err)
		}
	}
}
