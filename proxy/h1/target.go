package h1

import (
	"bytes"

	"usher/proxy/message"
)

// target is the request target (RFC 9112 section 3.2).
type target struct {
	path      []byte // origin form, or "*"
	authority []byte // of the absolute form
	absolute  bool
	connect   bool
}

// checkTarget finds the space that ends the target at the front of b: n is its
// length, -1 when it has not arrived. No byte passes that a URI cannot hold
// and that another parser may take for the end of it; percent escapes are
// complete and none is NUL.
func checkTarget(b []byte) (n int, err error) {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == ' ':
			return i, longTarget(i)
		case c == '%':
			if i+2 >= len(b) {
				return -1, unfinishedEscape(b[i+1:])
			}
			if err := checkEscape(b[i+1], b[i+2]); err != nil {
				return 0, err
			}
			i += 2
		case c < 0x20 && (c == '\r' || c == '\n'):
			return 0, errStart // HTTP/0.9, or a line without a version
		case c <= 0x20 || c >= 0x7f || c == '#':
			return 0, errTarget
		}
	}
	return -1, longTarget(len(b))
}

const maxTarget = 16 << 10

func longTarget(n int) error {
	if n > maxTarget {
		return errLongTarget
	}
	return nil
}

func unfinishedEscape(rest []byte) error {
	if len(rest) > 0 && !isHex(rest[0]) {
		return errEscape
	}
	return nil
}

func checkEscape(high, low byte) error {
	if !isHex(high) || !isHex(low) || high == '0' && low == '0' {
		return errEscape
	}
	return nil
}

func isHex(c byte) bool { return isDigit(c) || fold(c)-'a' < 6 }

// split recognises the form of a checked target.
func split(method, raw []byte) (t target, err error) {
	switch {
	case string(method) == "CONNECT":
		t.connect, t.path = true, raw
	case len(raw) > 0 && raw[0] == '/':
		t.path = raw
	case string(raw) == "*":
		if string(method) != "OPTIONS" {
			return t, errTarget
		}
		t.path = raw
	default:
		return absoluteForm(method, raw)
	}
	return t, nil
}

// absoluteForm takes http://authority/path apart.
func absoluteForm(method, raw []byte) (t target, err error) {
	rest, ok := cutScheme(raw)
	if !ok {
		return t, errTarget
	}
	t.absolute = true
	slash := bytes.IndexAny(rest, "/?")
	if slash < 0 {
		t.authority, t.path = rest, []byte("/")
		if string(method) == "OPTIONS" {
			t.path = []byte("*")
		}
		return t, nil
	}
	t.authority, t.path = rest[:slash], rest[slash:]
	return t, nil
}

func cutScheme(raw []byte) (rest []byte, ok bool) {
	for _, scheme := range [...]string{"http://", "https://"} {
		if n := len(scheme); len(raw) > n && message.EqualFold(raw[:n], scheme) {
			return raw[n:], true
		}
	}
	return nil, false
}

// checkHost accepts a host and an optional port (RFC 9110 section 7.2). Which
// site it names is not decided here; bytes over 0x7f are left to IDNA.
func checkHost(h []byte) bool {
	n := hostEnd(h)
	if n <= 0 {
		return false
	}
	if n == len(h) {
		return true
	}
	port := h[n+1:]
	for _, c := range port {
		if !isDigit(c) {
			return false
		}
	}
	return h[n] == ':' && len(port) <= 5
}

// hostEnd is the length of the host without its port.
func hostEnd(h []byte) int {
	i := 0
	if len(h) > 0 && h[0] == '[' {
		for i = 1; i < len(h) && (isHex(h[i]) || h[i] == ':' || h[i] == '.'); i++ {
		}
		if i < 3 || i == len(h) || h[i] != ']' {
			return 0
		}
		return i + 1
	}
	for i < len(h) && (h[i] >= 0x80 || in(h[i], hostL, hostH)) {
		i++
	}
	return i
}
