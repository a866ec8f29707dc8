package tls_test

import (
	crypto "crypto/tls"
	"errors"
	"io"
	"slices"
	"testing"

	"usher/tls"
)

var errSeen = errors.New("seen")

// goReads is what crypto/tls makes of a hello; nil when it refuses it.
func goReads(b []byte) (seen *crypto.ClientHelloInfo) {
	conn := &script{}
	conn.says.Reset(b)
	crypto.Server(conn, &crypto.Config{GetConfigForClient: func(info *crypto.ClientHelloInfo) (*crypto.Config, error) {
		seen = info
		return nil, errSeen
	}}).Handshake()
	return seen
}

// agree wants of two readers of one hello the same name and protocols. They may
// differ in what they refuse: crypto/tls also looks into other extensions and
// refuses names with a trailing dot; Peek also refuses a server_name list with
// another type in it, lengths that RFC 8446 forbids, and extensions and
// protocols without end.
func agree(t *testing.T, b []byte, h tls.Hello) {
	info := goReads(b)
	if info == nil {
		return
	}
	var alpn []string
	for _, p := range h.ALPN {
		alpn = append(alpn, string(p))
	}
	if info.ServerName != string(h.ServerName) || !slices.Equal(info.SupportedProtos, alpn) {
		t.Fatalf("crypto/tls reads %q, %q, Peek %q, %q", info.ServerName, info.SupportedProtos, h.ServerName, alpn)
	}
	if slices.Contains(info.Extensions, 43) && !slices.Equal(info.SupportedVersions, h.Versions) {
		t.Fatalf("crypto/tls reads %x, Peek %x", info.SupportedVersions, h.Versions)
	}
}

// TestHelloAsGoReadsIt wants crypto/tls to read real hellos, and as we do.
func TestHelloAsGoReadsIt(t *testing.T) {
	hellos := [][]byte{
		goHello(t, &crypto.Config{ServerName: "example.com", NextProtos: []string{"h2", "http/1.1"}}),
		goHello(t, &crypto.Config{ServerName: "example.com", MaxVersion: crypto.VersionTLS12}),
		goHello(t, &crypto.Config{ServerName: "192.0.2.1", InsecureSkipVerify: true}),
		goHello(t, &crypto.Config{ServerName: "example.com", NextProtos: wideALPN(40 << 10)}),
	}
	for _, real := range realHellos(t) {
		hellos = append(hellos, real.bytes, records(message(real.bytes), 100))
	}
	for _, b := range hellos {
		h, err := peekBytes(t, b)
		if err != nil || goReads(b) == nil {
			t.Errorf("%x: %v", b, err)
			continue
		}
		agree(t, b, h)
	}
}

// FuzzHello reads a message in records of size bytes.
func FuzzHello(f *testing.F) {
	for _, real := range realHellos(f) {
		f.Add(message(real.bytes), uint16(1<<14))
		f.Add(message(real.bytes), uint16(64))
	}
	for _, c := range goodHellos {
		f.Add(helloOf(c.body), uint16(1<<14))
	}
	for _, body := range badHellos {
		f.Add(helloOf(body), uint16(50))
	}
	f.Fuzz(func(t *testing.T, message []byte, size uint16) {
		b := records(message, int(size%(1<<14))+1)
		h, err := peekBytes(t, b)
		if err != nil {
			refused(t, h, err, len(b))
			return
		}
		agree(t, b, h)
		if again, err := peekBytes(t, records(message, 1<<14)); err != nil || say(again) != say(h) {
			t.Fatalf("in other records: %v\n%s\n%s", err, say(again), say(h))
		}
	})
}

// FuzzPeek reads any bytes.
func FuzzPeek(f *testing.F) {
	for _, real := range realHellos(f) {
		f.Add(real.bytes)
		f.Add(records(message(real.bytes), 100))
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := peekBytes(t, b)
		if err != nil {
			refused(t, h, err, len(b))
			return
		}
		agree(t, b, h)
	})
}

func refused(t *testing.T, h tls.Hello, err error, sent int) {
	if h.ServerName != nil || h.ALPN != nil || h.Versions != nil {
		t.Fatalf("%+v with %v", h, err)
	}
	if err == io.EOF && sent == 0 {
		return
	}
	if !errors.Is(err, tls.ErrHello) && !errors.Is(err, tls.ErrNotTLS) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}
