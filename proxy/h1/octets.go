package h1

import (
	"encoding/binary"
	"math/bits"
)

// Sets of ASCII bytes, one bit for each: the first 64 and the second 64.
const (
	digits   = 0x3ff << '0'
	lettersH = (1<<26-1)<<('A'-64) | (1<<26-1)<<('a'-64)

	// token is what names and methods consist of (RFC 9110 section 5.6.2).
	tokenL = digits | 1<<'!' | 1<<'#' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.'
	tokenH = lettersH | 1<<('^'-64) | 1<<('_'-64) | 1<<('`'-64) | 1<<('|'-64) | 1<<('~'-64)

	// host is a registered name (RFC 3986 section 3.2.2) without the comma,
	// which would make one Host look like two.
	hostL = digits | 1<<'!' | 1<<'$' | 1<<'%' | 1<<'&' | 1<<'\'' | 1<<'(' | 1<<')' | 1<<'*' | 1<<'+' | 1<<'-' | 1<<'.' | 1<<';' | 1<<'='
	hostH = lettersH | 1<<('_'-64) | 1<<('~'-64)
)

func in(c byte, low, high uint64) bool {
	set := low
	if c >= 64 {
		set = high
	}
	return c < 128 && set>>(c&63)&1 != 0
}

func isToken(c byte) bool { return in(c, tokenL, tokenH) }

func isDigit(c byte) bool { return c-'0' < 10 }

// tokenEnd is the index of the first byte from i on that is not of a token.
func tokenEnd(b []byte, i int) int {
	for i < len(b) && isToken(b[i]) {
		i++
	}
	return i
}

// textEnd is the index of the first byte from i on that no field value may
// hold: a control byte other than HTAB (RFC 9110 section 5.5). It looks at
// eight bytes at a time.
func textEnd(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		// Exact for the lowest byte that is marked; those above it may be
		// marked by the borrow.
		low := (x-0x20*ones)&^x | (del-ones)&^del
		if low &= highs; low == 0 {
			i += 8
			continue
		}
		if i += bits.TrailingZeros64(low) / 8; b[i] != '\t' {
			return i
		}
		i++
	}
	for i < len(b) && (b[i] >= 0x20 && b[i] != 0x7f || b[i] == '\t') {
		i++
	}
	return i
}

// trim removes optional whitespace (RFC 9110 section 5.6.3) around v.
func trim(v []byte) []byte {
	for len(v) > 0 && (v[0] == ' ' || v[0] == '\t') {
		v = v[1:]
	}
	for n := len(v); n > 0 && (v[n-1] == ' ' || v[n-1] == '\t'); n-- {
		v = v[:n-1]
	}
	return v
}

// fold is c in lower case.
func fold(c byte) byte {
	if c-'A' < 26 {
		c |= 0x20
	}
	return c
}

func equalFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

// element takes the next element off a comma-separated list (RFC 9110 section
// 5.6.1). Empty elements are skipped; nil is the end.
func element(list []byte) (first, rest []byte) {
	for len(list) > 0 {
		i := 0
		for i < len(list) && list[i] != ',' {
			i++
		}
		first, rest = trim(list[:i]), list[min(i+1, len(list)):]
		if len(first) > 0 {
			return first, rest
		}
		list = rest
	}
	return nil, nil
}
