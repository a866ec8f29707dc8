package telemetry

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"
)

// Caps on the length of a field after escaping, in bytes.
const (
	maxPath  = 2048
	maxField = 512
)

const ellipsis = "…"

const hexDigits = "0123456789abcdef"

// judge looks at s, eight bytes at a time. plain means that it can be logged
// without clean: printable ASCII. asIs means that JSON does not escape any of
// it either.
func judge(s []byte) (asIs, plain bool) {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := binary.LittleEndian.Uint64(s[i:])
		quotes, slashes := w^ones*'"', w^ones*'\\'
		// Below: a byte whose high bit is clear borrows when it is too small.
		odd := w | (w + ones) // not ASCII, or 0x7f
		odd |= (w - ones*0x20) &^ w
		odd |= (quotes-ones)&^quotes | (slashes-ones)&^slashes
		if odd&high != 0 {
			break
		}
	}
	asIs = true
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c < 0x20 || c > 0x7e:
			return false, false
		case c == '"' || c == '\\':
			asIs = false
		}
	}
	return asIs, true
}

// quote appends s, which is printable, with JSON's escapes.
func quote(dst, s []byte) []byte {
	for _, c := range s {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// clean appends s to dst with everything that is not printable written out as
// \xNN, \uNNNN or \UNNNNNNNN: controls (C1 too), invalid UTF-8, line and
// paragraph separators, bidirectional overrides. A log viewer that decodes the
// JSON again must not get them back, which is why JSON's own escapes will not
// do. A value longer than limit is cut on a rune border and ends in "…".
func clean(dst, s []byte, limit int) []byte {
	start := len(dst)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRune(s[i:])
		mark := len(dst)
		switch {
		case r == utf8.RuneError && size == 1:
			dst = escapeByte(dst, s[i])
		case strconv.IsPrint(r):
			dst = utf8.AppendRune(dst, r)
		default:
			dst = escapeRune(dst, r)
		}
		if len(dst)-start > limit {
			return append(dst[:mark], ellipsis...)
		}
		i += size
	}
	return dst
}

func escapeByte(dst []byte, b byte) []byte {
	return append(dst, '\\', 'x', hexDigits[b>>4], hexDigits[b&15])
}

func escapeRune(dst []byte, r rune) []byte {
	digits, letter := 8, byte('U')
	switch {
	case r < utf8.RuneSelf:
		return escapeByte(dst, byte(r))
	case r <= 0xffff:
		digits, letter = 4, 'u'
	}
	dst = append(dst, '\\', letter)
	for shift := 4 * (digits - 1); shift >= 0; shift -= 4 {
		dst = append(dst, hexDigits[r>>shift&15])
	}
	return dst
}
