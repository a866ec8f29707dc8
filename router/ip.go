package router

import (
	"bytes"
	"net/netip"
)

// IsIP reports whether a canonical host is an IP literal, which an SNI may not
// be.
func IsIP(key []byte) bool {
	// No canonical name ends in a number, see Canonical.
	return bytes.IndexByte(key, ':') >= 0 || endsInNumber(key)
}

// appendIPv6 appends the shortest form of the IPv6 address text, which is part
// of host.
func appendIPv6(dst, host, text []byte) ([]byte, error) {
	a, err := netip.ParseAddr(string(text))
	switch {
	case err != nil || !a.Is6():
		return dst, refuse(host, "not an IPv6 address")
	case a.Zone() != "":
		return dst, refuse(host, "an address with a zone")
	}
	return a.Unmap().AppendTo(dst), nil
}

// endsInNumber reports whether the last label of a lower-case name is one that
// a browser takes for part of an IPv4 address: digits, or 0x and hexadecimal
// digits (WHATWG URL, "ends in a number").
func endsInNumber(name []byte) bool {
	last := name[bytes.LastIndexByte(name, '.')+1:]
	if hex, ok := bytes.CutPrefix(last, []byte("0x")); ok {
		return all(hex, func(c byte) bool { return isDigit(c) || 'a' <= c && c <= 'f' })
	}
	return len(last) > 0 && all(last, isDigit)
}

func all(b []byte, is func(byte) bool) bool {
	for _, c := range b {
		if !is(c) {
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// isIPv4 reports whether name is four decimal numbers without leading zeros,
// which is the shortest form already.
func isIPv4(name []byte) bool {
	for part := range 4 {
		number := name
		if dot := bytes.IndexByte(name, '.'); part < 3 {
			if dot < 0 {
				return false
			}
			number, name = name[:dot], name[dot+1:]
		}
		if !isOctet(number) {
			return false
		}
	}
	return true
}

func isOctet(b []byte) bool {
	if len(b) == 0 || len(b) > 3 || len(b) > 1 && b[0] == '0' || !all(b, isDigit) {
		return false
	}
	n := 0
	for _, c := range b {
		n = n*10 + int(c-'0')
	}
	return n <= 255
}
