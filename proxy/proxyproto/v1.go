package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
)

const (
	prefixV1 = "PROXY "
	maxV1    = 107 // CRLF included
)

// parseV1 parses the line of section 2.1 of the specification.
func parseV1(b []byte) (h Header, size int, reason string) {
	end := bytes.IndexByte(b[:min(len(b), maxV1)], '\n')
	switch {
	case end < 0 && len(b) < maxV1:
		return h, 0, ""
	case end < 0:
		return h, 0, "no end of line in 107 bytes"
	case end < len(prefixV1) || b[end-1] != '\r':
		return h, 0, "line feed without carriage return"
	}
	h, reason = parseLine(string(b[len(prefixV1) : end-1]))
	return h, end + 1, reason
}

// parseLine parses what stands between "PROXY " and the CRLF.
func parseLine(line string) (Header, string) {
	family, rest, _ := strings.Cut(line, " ")
	if family == "UNKNOWN" {
		return Header{}, "" // whatever follows
	}
	if family != "TCP4" && family != "TCP6" {
		return Header{}, "unknown family"
	}
	field := strings.Split(rest, " ")
	if len(field) != 4 {
		return Header{}, "not two addresses and two ports"
	}
	source, ok1 := parseAddress(field[0], field[2], family == "TCP4")
	destination, ok2 := parseAddress(field[1], field[3], family == "TCP4")
	if !ok1 || !ok2 {
		return Header{}, "bad address or port"
	}
	return Header{Source: source, Destination: destination}, ""
}

func parseAddress(address, port string, ipv4 bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() != ipv4 || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(n)), true
}

// AppendV1 appends a version 1 header. When one of the addresses is IPv6, an
// IPv4 one is written IPv4-mapped; when one is invalid, the header says UNKNOWN.
func AppendV1(dst []byte, source, destination netip.AddrPort) []byte {
	family := familyOf(source, destination)
	if family == unspec {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	dst = append(dst, "PROXY TCP4 "...)
	if family == inet6 {
		dst[len(dst)-2] = '6'
	}
	dst = append(appendText(dst, source.Addr(), family), ' ')
	dst = append(appendText(dst, destination.Addr(), family), ' ')
	dst = append(strconv.AppendUint(dst, uint64(source.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(destination.Port()), 10)
	return append(dst, "\r\n"...)
}

// appendText appends a as the specification spells addresses: it knows no dots
// in IPv6.
func appendText(dst []byte, a netip.Addr, family byte) []byte {
	a = a.Unmap().WithZone("")
	if !a.Is4() || family == inet {
		return a.AppendTo(dst)
	}
	ip := a.As4()
	dst = append(dst, "::ffff:"...)
	dst = strconv.AppendUint(dst, uint64(ip[0])<<8|uint64(ip[1]), 16)
	dst = append(dst, ':')
	return strconv.AppendUint(dst, uint64(ip[2])<<8|uint64(ip[3]), 16)
}
