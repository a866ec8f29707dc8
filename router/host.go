package router

import (
	"bytes"
	"errors"
	"fmt"
)

// MaxHost is the longest canonical host, in bytes (RFC 1035 section 2.3.4,
// without the root label).
const MaxHost = 253

const maxLabel = 63

// ErrHost is wrapped by every error of Canonical and Pattern.
var ErrHost = errors.New("not a hostname")

// Canonical appends to dst the key of a host as it came in an SNI, a Host field
// or an :authority. The key is the same for every spelling of one host:
//
//   - A valid port (0 to 65535, RFC 3986 section 3.2.3; it may be empty) is
//     dropped, then one trailing dot.
//   - Names are lower case letters, digits, '-', '_' and '.', at most MaxHost
//     bytes, in labels of 1 to 63 bytes. Nothing else is asked of ASCII names.
//     Others are turned into ASCII by IDNA and then must be of that form.
//   - IPv4 addresses are four decimal numbers. What a browser would read as
//     another notation of an address (last label a number or 0x…: "127.1",
//     "0x7f000001", "1.2.3.256") is an error, so that it is nobody's name.
//   - IPv6 addresses stand in brackets, or bare when there is no port, have no
//     zone, and give their shortest form without brackets. IPv4-mapped ones
//     give the IPv4 address.
//
// A key is its own key. On error dst comes back as it was. dst may be a stack
// buffer, of MaxHost bytes to be enough for everything; then ASCII names and
// IPv4 addresses allocate nothing.
func Canonical(dst, host []byte) ([]byte, error) {
	name, kind, reason := split(host)
	if reason != "" {
		return dst, refuse(host, reason)
	}
	if kind == ipv6 {
		return appendIPv6(dst, host, name)
	}
	return appendName(dst, host, name)
}

// Pattern appends the key of a host as the configuration spells a site: "*",
// "*." before a name, a name, or an IP address with or without brackets. A port
// is an error here, since a site is no matter of ports.
func Pattern(dst, host []byte) ([]byte, error) {
	if string(host) == "*" {
		return append(dst, '*'), nil
	}
	name, wild := bytes.CutPrefix(host, []byte("*."))
	if last := bytes.LastIndexByte(name, ':'); last >= 0 && (bytes.IndexByte(name, ':') == last || name[last-1] == ']') {
		return dst, refuse(host, "a site has no port")
	}
	if !wild {
		return Canonical(dst, name)
	}
	key, err := Canonical(append(dst, "*."...), name)
	switch added := key[len(dst):]; {
	case err != nil:
		return dst, err
	case IsIP(added[2:]):
		return dst, refuse(host, "an IP address has no subdomains")
	case len(added) > MaxHost:
		return dst, refuse(host, "longer than 253 bytes")
	}
	return key, nil
}

// refuse makes the error for host. It copies host, so that a buffer on the
// caller's stack stays there.
func refuse(host []byte, reason string) error {
	return fmt.Errorf("%w: %.80q: %s", ErrHost, string(host), reason)
}

type kind bool

const (
	named kind = false
	ipv6  kind = true
)

// split takes the port and brackets from host. A reason says why it cannot.
func split(host []byte) (name []byte, k kind, reason string) {
	if len(host) > 0 && host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 {
			return nil, ipv6, "no closing bracket"
		}
		return host[1:end], ipv6, checkPort(host[end+1:])
	}
	colon := bytes.IndexByte(host, ':')
	if colon < 0 {
		return host, named, ""
	}
	if bytes.IndexByte(host[colon+1:], ':') >= 0 {
		return host, ipv6, "" // with a second colon it is no name with a port
	}
	return host[:colon], named, checkPort(host[colon:])
}

// checkPort checks what follows a host: nothing, or a colon and a port.
func checkPort(b []byte) (reason string) {
	if len(b) == 0 {
		return ""
	}
	if b[0] != ':' {
		return "bytes after the closing bracket"
	}
	port := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return "the port is not a number"
		}
		if port = port*10 + int(c-'0'); port > 65535 {
			return "the port is over 65535"
		}
	}
	return ""
}

// appendName appends a name or IPv4 address without port.
func appendName(dst, host, name []byte) ([]byte, error) {
	if !ascii(name) {
		var reason string
		if name, reason = toASCII(name); reason != "" {
			return dst, refuse(host, reason)
		}
	}
	name = bytes.TrimSuffix(name, []byte("."))
	if len(name) > MaxHost {
		return dst, refuse(host, "longer than 253 bytes")
	}
	key := append(dst, name...)
	if reason := lower(key[len(dst):]); reason != "" {
		return dst, refuse(host, reason)
	}
	if endsInNumber(key[len(dst):]) && !isIPv4(key[len(dst):]) {
		return dst, refuse(host, "ends in a number and is no IPv4 address")
	}
	return key, nil
}

// lower makes a name lower case in place and checks its bytes and labels.
func lower(name []byte) (reason string) {
	label := 0
	for i, c := range name {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case c == '.':
			if label == 0 {
				return "empty label"
			}
			label = 0
		case 'A' <= c && c <= 'Z':
			name[i] = c + 'a' - 'A'
			label++
		default:
			return "a byte that no hostname has"
		}
		if label > maxLabel {
			return "a label longer than 63 bytes"
		}
	}
	if label == 0 {
		return "empty label"
	}
	return ""
}
