package tls_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/socket"
	"usher/tls"
)

const limit = 64 << 10 // of hellos, as the server has it

// peekPair returns a socket to peek into and the client's end. Reads give up
// after a time that no test reaches.
func peekPair(t testing.TB) (c, client *socket.Socket) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, client = socket.New(fds[0], netip.AddrPort{}, netip.AddrPort{}), socket.New(fds[1], netip.AddrPort{}, netip.AddrPort{})
	c.SetReadDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { c.Close(); client.Close() })
	return c, client
}

// peekBytes is Peek of a client that sent b and closed.
func peekBytes(t testing.TB, b []byte) (tls.Hello, error) {
	c, client := peekPair(t)
	defer func() { c.Close(); client.Close() }()
	client.CloseWrite()
	c.Unread(bytes.Clone(b)) // a segment of any size
	h, err := tls.Peek(c, limit)
	if !bytes.Equal(c.Ahead(), b) {
		t.Fatalf("Peek left %d of %d bytes", len(c.Ahead()), len(b))
	}
	return h, err
}

// wantBack reads from c and wants b.
func wantBack(t *testing.T, c *socket.Socket, b []byte) {
	t.Helper()
	got := make([]byte, len(b))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, b) {
		t.Fatalf("the hello did not come back: %v", err)
	}
	if len(c.Ahead()) > 0 {
		t.Fatalf("%d bytes more than were sent", len(c.Ahead()))
	}
}

// realHello is one file of testdata/hello: what a real client sent.
type realHello struct {
	name  string
	want  string // as say has it
	bytes []byte
}

func realHellos(t testing.TB) (all []realHello) {
	files, err := filepath.Glob("../testdata/hello/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no hellos", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, dump, _ := strings.Cut(string(text), "\n\n")
		_, want, _ := strings.Cut(head, "\n") // without the comment
		b, err := hex.DecodeString(strings.Join(strings.Fields(dump), ""))
		if err != nil {
			t.Fatal(file, err)
		}
		all = append(all, realHello{strings.TrimSuffix(filepath.Base(file), ".txt"), want, b})
	}
	return all
}

// say spells a hello as the files do.
func say(h tls.Hello) string {
	versions := make([]string, len(h.Versions))
	for i, v := range h.Versions {
		versions[i] = fmt.Sprintf("%04x", v)
	}
	lines := []string{
		"server_name: " + string(h.ServerName),
		"alpn: " + string(bytes.Join(h.ALPN, []byte(" "))),
		"versions: " + strings.Join(versions, " "),
	}
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// message is the handshake message in records.
func message(records []byte) (m []byte) {
	for len(records) > 0 {
		end := 5 + int(binary.BigEndian.Uint16(records[3:]))
		m, records = append(m, records[5:end]...), records[end:]
	}
	return m
}

// records cuts a message into records of at most size bytes.
func records(m []byte, size int) (b []byte) {
	for len(m) > 0 {
		n := min(size, len(m))
		b = append(b, 22, 3, 1, byte(n>>8), byte(n))
		b, m = append(b, m[:n]...), m[n:]
	}
	return b
}
