package proxyproto_test

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/proxyproto"
	"usher/proxy/socket"
)

// pair returns a socket to read from and its other end.
func pair(t testing.TB) (c, peer *socket.Socket) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	c, peer = socket.New(fds[0], netip.AddrPort{}, netip.AddrPort{}), socket.New(fds[1], netip.AddrPort{}, netip.AddrPort{})
	t.Cleanup(func() { c.Close(); peer.Close() })
	return c, peer
}

// say spells a header as the vectors do.
func say(h proxyproto.Header, err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "more"
	case err != nil:
		return "error"
	case h.Local:
		return "local"
	case !h.Source.IsValid() && !h.Destination.IsValid():
		return "unknown"
	}
	return h.Source.String() + " " + h.Destination.String()
}

type vector struct {
	want  string
	bytes []byte
}

func vectors(t testing.TB) (all []vector) {
	text, err := os.ReadFile("../../testdata/proxyproto/vectors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		at := strings.IndexByte(line, '"')
		if at < 0 || line[0] == '#' {
			continue
		}
		b, err := strconv.Unquote(strings.TrimSpace(line[at:]))
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, vector{strings.TrimSpace(line[:at]), []byte(b)})
	}
	return all
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		c, peer := pair(t)
		peer.Write(v.bytes)
		peer.CloseWrite()
		h, err := proxyproto.Read(c)
		if got := say(h, err); got != v.want {
			t.Errorf("%q: %s (%v), want %s", v.bytes, got, err, v.want)
		}
		if err != nil && !errors.Is(err, proxyproto.ErrHeader) {
			t.Errorf("%q: %v is no ErrHeader", v.bytes, err)
		}
		rest, _ := io.ReadAll(c)
		if err == nil && len(rest) > 0 || err != nil && !bytes.Equal(rest, v.bytes) {
			t.Errorf("%q: left %q", v.bytes, rest)
		}
	}
}

// TestSegments splits every vector at every byte, with bytes behind it.
func TestSegments(t *testing.T) {
	const after = "\x16\x03\x01 what comes next"
	for _, v := range vectors(t) {
		if v.want == "error" || v.want == "more" {
			continue
		}
		c, peer := pair(t)
		for split := 0; split <= len(v.bytes); split++ {
			c.Unread(v.bytes[:split]) // one Read ends where these end
			peer.Write(append(v.bytes[split:len(v.bytes):len(v.bytes)], after...))
			if got := say(proxyproto.Read(c)); got != v.want {
				t.Fatalf("%q split at %d: %s", v.bytes, split, got)
			}
			rest := make([]byte, len(after))
			if _, err := io.ReadFull(c, rest); err != nil || string(rest) != after || len(c.Ahead()) > 0 {
				t.Fatalf("%q split at %d: then %q, %v", v.bytes, split, rest, err)
			}
		}
	}
}

// TestSlow sends one byte at a time.
func TestSlow(t *testing.T) {
	for _, v := range vectors(t) {
		c, peer := pair(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range v.bytes {
				peer.Write(v.bytes[i : i+1])
			}
			peer.CloseWrite()
		}()
		if got := say(proxyproto.Read(c)); got != v.want {
			t.Errorf("%q: %s, want %s", v.bytes, got, v.want)
		}
		<-done
	}
}

// TestEarly wants errors as soon as they can be known, from a peer that sends no
// more and does not close.
func TestEarly(t *testing.T) {
	for _, b := range []string{"G", "\x16", "PROXYx", "\r\n\r\n\x00\r\nQUIT\n\x11", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "PROXY UNKNOWN " + strings.Repeat("x", 93)} {
		c, peer := pair(t)
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		peer.Write([]byte(b))
		if _, err := proxyproto.Read(c); !errors.Is(err, proxyproto.ErrHeader) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestNothing(t *testing.T) {
	c, peer := pair(t)
	peer.CloseWrite()
	if _, err := proxyproto.Read(c); err != io.EOF {
		t.Errorf("closed at once: %v", err)
	}
	c, peer = pair(t)
	peer.Write([]byte("PROXY "))
	c.SetReadDeadline(time.Unix(1, 0))
	if _, err := proxyproto.Read(c); !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, proxyproto.ErrHeader) {
		t.Errorf("at the deadline: %v", err)
	}
}

func TestLargeTLVs(t *testing.T) {
	c, peer := pair(t)
	header := proxyproto.AppendV2(nil, netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2"))
	tlv := append([]byte{0xe0, 4081 >> 8, 4081 & 255}, make([]byte, 4081)...)
	header = append(header, tlv...)
	header[14], header[15] = 4096>>8, 4096&255
	peer.Write(append(header, "next"...))
	if got := say(proxyproto.Read(c)); got != "192.0.2.1:1 192.0.2.2:2" {
		t.Error(got)
	}
	rest := make([]byte, 10)
	if n, err := c.Read(rest); string(rest[:n]) != "next" || err != nil {
		t.Errorf("then %q, %v", rest[:n], err)
	}
}
