package fields

import (
	"encoding/binary"
	"math"
)

// Sets of ASCII bytes, one bit for each: the first 64 and the second 64.
const (
	digits  = 0x3ff << '0'
	lowerH  = (1<<26 - 1) << ('a' - 64)
	upperH  = (1<<26 - 1) << ('A' - 64)
	tokenL  = digits | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	marksH  = 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)
	nameH   = lowerH | marksH // a field name has no upper case (RFC 9113 section 8.2.1)
	methodH = nameH | upperH

	// host is a registered name (RFC 3986 section 3.2.2) without the comma,
	// which would make one Host look like two, and without userinfo.
	hostL = digits | 1<<'!' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.' | 1<<';' | 1<<'='
	hostH = lowerH | upperH | 1<<('_'-64) | 1<<('~'-64)
)

func in(c byte, low, high uint64) bool {
	set := low
	if c >= 64 {
		set = high
	}
	return c < 128 && set>>(c&63)&1 != 0
}

// all reports whether s is not empty and consists of such bytes.
func all(s string, low, high uint64) bool {
	for i := 0; i < len(s); i++ {
		if !in(s[i], low, high) {
			return false
		}
	}
	return len(s) > 0
}

func isDigit(c byte) bool { return c-'0' < 10 }

func isHex(c byte) bool { return isDigit(c) || (c|0x20)-'a' < 6 }

// isText reports whether v may be a field value: no control byte other than
// HTAB (RFC 9110 section 5.5). It looks at eight bytes at a time.
func isText(v []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(v) >= 8; v = v[8:] {
		x := binary.LittleEndian.Uint64(v)
		del := x ^ 0x7f*ones
		low := ((x-0x20*ones)&^x | (del-ones)&^del) & highs
		if low != 0 && !isTextSlow(v[:8]) {
			return false
		}
	}
	return isTextSlow(v)
}

func isTextSlow(v []byte) bool {
	for _, c := range v {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// trim removes optional whitespace (RFC 9110 section 5.6.3) around v.
func trim(v string) string {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for n := len(v); n > 0 && (v[n-1] == ' ' || v[n-1] == '\t'); n-- {
		v = v[:n-1]
	}
	return v
}

// decimal reads a number below 2^63 (RFC 9110 section 8.6): no sign, no list,
// no space.
func decimal(v string) (n int64, ok bool) {
	for i := range len(v) {
		d := int64(v[i] - '0')
		if d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(v) > 0
}

// isHost accepts a host and an optional port (RFC 9110 section 7.2). Which
// site it names is not decided here; bytes over 0x7f are left to IDNA.
func isHost(h string) bool {
	n := hostEnd(h)
	if n <= 0 {
		return false
	}
	if n == len(h) {
		return true
	}
	port := h[n+1:]
	for i := range len(port) {
		if !isDigit(port[i]) {
			return false
		}
	}
	return h[n] == ':' && len(port) <= 5
}

// hostEnd is the length of the host without its port.
func hostEnd(h string) int {
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

// isTarget reports whether p is an absolute path with an optional query: no
// byte that a URI cannot hold and that another parser may take for the end of
// it, complete percent escapes, and none of NUL.
func isTarget(p string) bool {
	if len(p) == 0 || p[0] != '/' {
		return false
	}
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '%':
			if i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2]) || p[i+1] == '0' && p[i+2] == '0' {
				return false
			}
			i += 2
		case c <= 0x20 || c >= 0x7f || c == '#':
			return false
		}
	}
	return true
}

func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if c, d := a[i], b[i]; c != d && (c^d != 0x20 || (c|0x20)-'a' >= 26) {
			return false
		}
	}
	return true
}
