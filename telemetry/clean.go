package telemetry

import (
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

// plain reports whether s can be logged as it is: printable ASCII that fits.
// Quotes and backslashes are JSON's business.
func plain[T ~string | ~[]byte](s T, limit int) bool {
	if len(s) > limit {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// clean appends s to dst with everything that is not printable written out as
// \xNN, \uNNNN or \UNNNNNNNN: controls (C1 too), invalid UTF-8, line and
// paragraph separators, bidirectional overrides. A log viewer that decodes the
// JSON again must not get them back, which is why JSON's own escapes will not
// do. A value longer than limit is cut on a rune border and ends in "…".
func clean[T ~string | ~[]byte](dst []byte, s T, limit int) []byte {
	start := len(dst)
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
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
