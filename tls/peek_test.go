package tls_test

import (
	"bytes"
	crypto "crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"usher/tls"
)

func TestPeekRealClients(t *testing.T) {
	for _, real := range realHellos(t) {
		c, client := peekPair(t)
		client.Write(real.bytes)
		h, err := tls.Peek(c, limit)
		if err != nil || say(h) != real.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", real.name, err, say(h), real.want)
		}
		if h.IsACME() != (real.name == "openssl-acme") {
			t.Errorf("%s: IsACME is %v", real.name, h.IsACME())
		}
		wantBack(t, c, real.bytes)
	}
}

// TestPeekSegments cuts every hello in two at every byte.
func TestPeekSegments(t *testing.T) {
	for _, real := range realHellos(t) {
		c, client := peekPair(t)
		for split := 1; split < len(real.bytes); split++ {
			c.Unread(bytes.Clone(real.bytes[:split])) // one Read ends where these end
			client.Write(real.bytes[split:])
			if h, err := tls.Peek(c, limit); err != nil || say(h) != real.want {
				t.Fatalf("%s at %d: %v\n%s", real.name, split, err, say(h))
			}
			wantBack(t, c, real.bytes)
		}
	}
}

// TestPeekBytes sends every hello byte by byte.
func TestPeekBytes(t *testing.T) {
	for _, real := range realHellos(t) {
		c, client := peekPair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range real.bytes {
				client.Write(real.bytes[i : i+1])
			}
		}()
		if h, err := tls.Peek(c, limit); err != nil || say(h) != real.want {
			t.Errorf("%s: %v\n%s", real.name, err, say(h))
		}
		<-done
		wantBack(t, c, real.bytes)
	}
}

// TestPeekRecords cuts every hello into records of every size.
func TestPeekRecords(t *testing.T) {
	for _, real := range realHellos(t) {
		m := message(real.bytes)
		for size := 1; size <= len(m); size++ {
			h, err := peekBytes(t, records(m, size))
			if count := (len(m) + size - 1) / size; count > 64 {
				if !errors.Is(err, tls.ErrHello) {
					t.Fatalf("%s in %d records: %v", real.name, count, err)
				}
			} else if err != nil || say(h) != real.want {
				t.Fatalf("%s in records of %d: %v\n%s", real.name, size, err, say(h))
			}
		}
	}
}

// goHello is what crypto/tls sends.
func goHello(t testing.TB, config *crypto.Config) []byte {
	conn := &script{}
	crypto.Client(conn, config).Handshake()
	if conn.sent.Len() == 0 {
		t.Fatal("crypto/tls sent no hello")
	}
	return conn.sent.Bytes()
}

// script is a connection whose peer says what it has to say and closes.
type script struct {
	net.Conn
	says bytes.Reader
	sent bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.says.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.sent.Write(p) }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
func (s *script) Close() error                     { return nil }

// wideALPN makes a list of n bytes, length octets included.
func wideALPN(n int) (list []string) {
	for ; n > 0; n -= 256 {
		list = append(list, strings.Repeat("p", min(n, 256)-1))
	}
	return list
}

func TestPeekLarge(t *testing.T) {
	for _, size := range []int{3000, 16 << 10, 40 << 10, 62 << 10} {
		b := goHello(t, &crypto.Config{ServerName: "large.example.com", NextProtos: wideALPN(size)})
		c, client := peekPair(t)
		go client.Write(b)
		h, err := tls.Peek(c, limit)
		if err != nil || string(h.ServerName) != "large.example.com" || len(h.ALPN) != len(wideALPN(size)) {
			t.Errorf("%d bytes: %v, %q, %d protocols", len(b), err, h.ServerName, len(h.ALPN))
		}
		wantBack(t, c, b)
	}
}

// TestPeekLimit has a hello that fits to the byte, and one byte less.
func TestPeekLimit(t *testing.T) {
	b := goHello(t, &crypto.Config{ServerName: "example.com", NextProtos: wideALPN(20 << 10)})
	for _, split := range []int{1, 700, len(b) - 1} {
		c, client := peekPair(t)
		c.Unread(bytes.Clone(b[:split]))
		client.Write(append(b[split:], "behind"...))
		if _, err := tls.Peek(c, len(b)); err != nil {
			t.Errorf("within the limit: %v", err)
		}
		if _, err := tls.Peek(c, len(b)-1); !errors.Is(err, tls.ErrHello) {
			t.Errorf("over the limit: %v", err)
		}
		wantBack(t, c, append(b, "behind"...))
	}
	c, client := peekPair(t)
	client.Write([]byte{22, 3, 1, 0x40, 0, 1, 1, 0, 0}) // announces 64 KiB of message
	if _, err := tls.Peek(c, limit); !errors.Is(err, tls.ErrHello) {
		t.Errorf("announced over the limit: %v", err)
	}
}

func TestPeekNotTLS(t *testing.T) {
	for _, b := range []string{"G", "GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n", "SSH-2.0-x\r\n", "\x00", "\x15\x03\x01", "\x17\x03\x03", "\x80\x2e\x01\x03\x01", "\xff"} {
		c, client := peekPair(t)
		client.Write([]byte(b))
		if _, err := tls.Peek(c, limit); !errors.Is(err, tls.ErrNotTLS) || errors.Is(err, tls.ErrHello) {
			t.Errorf("%q: %v", b, err)
		}
		wantBack(t, c, []byte(b))
	}
}

// TestPeekEarly wants the error from a client that says no more and waits.
func TestPeekEarly(t *testing.T) {
	for _, b := range []string{
		"\x16\x02", "\x16\x04\x00", "\x16G", "\x16\x03\x01\x00\x00", "\x16\x03\x01\x40\x01", "\x16\x03\x01\xff\xff",
		"\x16\x03\x01\x02\x00\x02", "\x16\x03\x01\x02\x00\x00",
		"\x16\x03\x01\x00\x01\x01\x15", "\x16\x03\x01\x00\x01\x01\x17\x03\x03", "\x16\x03\x01\x00\x01\x01G", "\x16\x03\x01\x00\x01\x01\x16\x03\x01\x00\x00",
		strings.Repeat("\x16\x03\x01\x00\x01\x01", 1) + strings.Repeat("\x16\x03\x01\x00\x01\x00", 63),
	} {
		c, client := peekPair(t)
		client.Write([]byte(b))
		if _, err := tls.Peek(c, limit); !errors.Is(err, tls.ErrHello) || errors.Is(err, tls.ErrNotTLS) {
			t.Errorf("%q: %v", b, err)
		}
		wantBack(t, c, []byte(b))
	}
}

func TestPeekEnds(t *testing.T) {
	b := realHellos(t)[0].bytes
	for _, n := range []int{1, 4, 5, 6, 8, 9, 100, len(b) - 1} {
		if _, err := peekBytes(t, b[:n]); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, tls.ErrHello) {
			t.Errorf("closed after %d bytes: %v", n, err)
		}
	}
	if _, err := peekBytes(t, nil); err != io.EOF {
		t.Errorf("closed at once: %v", err)
	}
	c, client := peekPair(t)
	client.Write(b[:100])
	c.Unread(nil)
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := tls.Peek(c, limit); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, tls.ErrHello) {
		t.Errorf("at the deadline: %v", err)
	}
}

// TestPeekThenHandshake shows that nothing was consumed.
func TestPeekThenHandshake(t *testing.T) {
	certificate := selfSigned(t, "example.com")
	c, client := peekPair(t)
	done := make(chan error, 1)
	go func() {
		conn := crypto.Client(client, &crypto.Config{ServerName: "example.com", InsecureSkipVerify: true, NextProtos: wideALPN(20 << 10)})
		_, err := fmt.Fprint(conn, "hello")
		done <- err
	}()
	if _, err := tls.Peek(c, limit); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 5)
	conn := crypto.Server(c, &crypto.Config{Certificates: []crypto.Certificate{certificate}})
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestPeekAllocations(t *testing.T) {
	b := goHello(t, &crypto.Config{ServerName: "example.com", NextProtos: []string{"h2", "http/1.1"}})
	c, client := peekPair(t)
	sink := make([]byte, len(b))
	allocs := testing.AllocsPerRun(100, func() {
		client.Write(b)
		if _, err := tls.Peek(c, limit); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(c, sink)
	})
	// What was read, the bytes of the hello, its protocols, its versions.
	if allocs > 4 {
		t.Errorf("%v allocations", allocs)
	}
}

func BenchmarkPeek(b *testing.B) {
	hello := goHello(b, &crypto.Config{ServerName: "example.com", NextProtos: []string{"h2", "http/1.1"}})
	for name, sent := range map[string][]byte{"1record": hello, "10records": records(message(hello), len(hello)/10)} {
		b.Run(name, func(b *testing.B) {
			c, _ := peekPair(b)
			sink := make([]byte, len(sent))
			b.ReportAllocs()
			for b.Loop() {
				c.Unread(sent)
				if _, err := tls.Peek(c, limit); err != nil {
					b.Fatal(err)
				}
				io.ReadFull(c, sink)
			}
		})
	}
}
