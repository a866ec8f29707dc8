package backend

import (
	"strings"
	"testing"

	"usher/bench/share"
)

func newTestServer(t *testing.T) *server {
	t.Helper()
	return &server{count: new(share.Counters), responses: map[int64][]byte{}}
}

func TestRequests(t *testing.T) {
	const head = "GET /b/128 HTTP/1.1\r\nHost: x\r\n\r\n"
	post := "POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n"
	chunks := "POST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n\x00\x00\x00\x00\x00\r\n0\r\n\r\n"
	for _, c := range []struct {
		name, in string
		answers  uint64
		ok       bool
	}{
		{"get", head, 1, true},
		{"two", head + head, 2, true},
		{"post", post + strings.Repeat("\x00", 10), 1, true},
		{"post without a body", "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 1, true},
		{"chunked", chunks, 1, true},
		{"another path", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 0, false},
		{"another method", "PUT / HTTP/1.1\r\nHost: x\r\n\r\n", 0, false},
	} {
		// Whole, and byte by byte.
		for _, piece := range []int{len(c.in), 1} {
			s := newTestServer(t)
			conn, ok := &conn{mode: http}, true
			for i := 0; i < len(c.in) && ok; i += piece {
				ok = s.take(conn, []byte(c.in[i:i+piece]))
			}
			if got := s.count.Requests.Load(); ok != c.ok || got != c.answers {
				t.Errorf("%s in pieces of %d: %d answers, ok %v", c.name, piece, got, ok)
			}
		}
	}
}

func TestTunnels(t *testing.T) {
	hello := "\x16\x03\x01\x00\x05hello"
	for _, piece := range []int{len(hello), 1} {
		s, c := newTestServer(t), &conn{mode: once}
		for i := 0; i < len(hello); i += piece {
			if c.close {
				t.Fatal("answered before the whole record")
			}
			s.take(c, []byte(hello[i:i+piece]))
		}
		if string(c.out) != Tiny || !c.close {
			t.Errorf("answers %q, close %v", c.out, c.close)
		}
	}
	s, c := newTestServer(t), &conn{mode: ask}
	in := hello + "\x00\x00\x00\x00\x00\x00\x01\x00" + "\x00\x00\x00\x00\x00\x00\x00\x05"
	for i := range in {
		s.take(c, []byte(in[i:i+1]))
	}
	if c.file != 0x105 || c.close {
		t.Errorf("owes %d bytes, close %v", c.file, c.close)
	}
}
