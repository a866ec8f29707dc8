package router

import "bytes"

func withoutQuery(path []byte) []byte {
	if q := bytes.IndexByte(path, '?'); q >= 0 {
		return path[:q]
	}
	return path
}

// needsNormalizing is false only for paths that Normalize leaves as they are.
func needsNormalizing(path []byte) bool {
	return bytes.IndexByte(path, '%') >= 0 || bytes.Contains(path, []byte("/."))
}

// Normalize appends to dst a path without query, in the form in which prefixes
// must be the same: percent-encoded unreserved octets are decoded (RFC 3986
// section 6.2.2.2), then dot segments are removed (section 5.2.4). Nothing else
// changes: not encoded slashes, empty segments or backslashes. A path that
// does not begin with a slash has no dot segments.
func Normalize(dst, path []byte) []byte {
	start := len(dst)
	dst = decodeUnreserved(dst, path)
	if len(dst) == start || dst[start] != '/' {
		return dst
	}
	return dst[:start+removeDots(dst[start:])]
}

func decodeUnreserved(dst, path []byte) []byte {
	for len(path) > 0 {
		percent := bytes.IndexByte(path, '%')
		if percent < 0 {
			return append(dst, path...)
		}
		dst, path = append(dst, path[:percent]...), path[percent:]
		if c, ok := octet(path); ok && unreserved(c) {
			dst, path = append(dst, c), path[3:]
		} else {
			dst, path = append(dst, '%'), path[1:]
		}
	}
	return dst
}

// octet decodes the percent-encoded octet that b begins with.
func octet(b []byte) (byte, bool) {
	if len(b) < 3 {
		return 0, false
	}
	high, ok1 := hexDigit(b[1])
	low, ok2 := hexDigit(b[2])
	return high<<4 | low, ok1 && ok2
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// unreserved is RFC 3986 section 2.3.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// removeDots removes the dot segments of a path that begins with a slash, in
// place, and returns its new length. What is kept never overtakes what is read.
func removeDots(path []byte) int {
	kept := path[:0]
	for rest := path; len(rest) > 0; {
		end := len(rest)
		if slash := bytes.IndexByte(rest[1:], '/'); slash >= 0 {
			end = slash + 1
		}
		segment, last := rest[:end], end == len(rest)
		rest = rest[end:]
		switch string(segment) {
		case "/.":
		case "/..":
			kept = kept[:max(0, bytes.LastIndexByte(kept, '/'))]
		default:
			kept = append(kept, segment...)
			continue
		}
		if last {
			kept = append(kept, '/')
		}
	}
	return len(kept)
}
