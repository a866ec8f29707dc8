package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Section 2.2 of the specification.
const (
	signatureV2 = "\r\n\r\n\x00\r\nQUIT\n"
	fixedV2     = len(signatureV2) + 4 // version and command, family and protocol, length (2)

	local = 0x20
	proxy = 0x21

	unspec = 0x0
	inet   = 0x1
	inet6  = 0x2
	unixes = 0x3
	stream = 0x1
	dgram  = 0x2

	typeCRC32C = 0x03
)

// parseV2 parses the header of section 2.2 of the specification.
func parseV2(b []byte) (h Header, size int, reason string) {
	if len(b) > 12 && b[12] != local && b[12] != proxy {
		return h, 0, "unknown version or command"
	}
	if len(b) < fixedV2 {
		return h, 0, ""
	}
	length := int(binary.BigEndian.Uint16(b[14:]))
	if length > maxTLVs {
		return h, 0, "over 4096 bytes"
	}
	size = fixedV2 + length
	if len(b) < size {
		return h, size, ""
	}
	if b[12] == local {
		return Header{Local: true}, size, "" // the rest is to be ignored
	}
	h, reason = parseBlock(b[:size])
	return h, size, reason
}

// parseBlock parses the addresses and TLVs of a whole header.
func parseBlock(b []byte) (h Header, reason string) {
	family, protocol := b[13]>>4, b[13]&15
	if family > unixes || protocol > dgram {
		return h, "unknown family or protocol"
	}
	if family == unspec || protocol == unspec {
		return h, ""
	}
	end := fixedV2 + [...]int{inet: 2*4 + 4, inet6: 2*16 + 4, unixes: 2 * 108}[family]
	if len(b) < end {
		return h, "addresses cut off"
	}
	if family != unixes && protocol == stream {
		ips, ports := b[fixedV2:end-4], b[end-4:end]
		h.Source = addrPort(ips[:len(ips)/2], ports)
		h.Destination = addrPort(ips[len(ips)/2:], ports[2:])
	}
	return h, checkTLVs(b, end)
}

func addrPort(ip, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(port))
}

// checkTLVs skips the TLVs of header b, which begin at start, but for the
// checksum (section 2.2.3 of the specification): it must be right if there is
// one.
func checkTLVs(b []byte, start int) (reason string) {
	for at := start; at < len(b); {
		if len(b)-at < 3 {
			return "TLV cut off"
		}
		value := at + 3
		end := value + int(binary.BigEndian.Uint16(b[at+1:]))
		switch {
		case end > len(b):
			return "TLV cut off"
		case b[at] == typeCRC32C && (end-value != 4 || binary.BigEndian.Uint32(b[value:]) != checksum(b, value)):
			return "wrong checksum"
		}
		at = end
	}
	return ""
}

// checksum is that of b with zeros for the four bytes at value.
func checksum(b []byte, value int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, b[:value])
	sum = crc32.Update(sum, table, make([]byte, 4))
	return crc32.Update(sum, table, b[value+4:])
}

// AppendV2 appends a version 2 header without TLVs. When one of the addresses
// is IPv6, an IPv4 one is written IPv4-mapped; when one is invalid, the header
// is LOCAL without addresses.
func AppendV2(dst []byte, source, destination netip.AddrPort) []byte {
	return appendV2(dst, source, destination, stream)
}

// AppendV2Datagram is AppendV2 for UDP. The header stands inside a datagram,
// before what that carries.
func AppendV2Datagram(dst []byte, source, destination netip.AddrPort) []byte {
	return appendV2(dst, source, destination, dgram)
}

func appendV2(dst []byte, source, destination netip.AddrPort, protocol byte) []byte {
	dst = append(dst, signatureV2...)
	switch familyOf(source, destination) {
	case inet:
		s, d := source.Addr().Unmap().As4(), destination.Addr().Unmap().As4()
		dst = append(dst, proxy, inet<<4|protocol, 0, 2*4+4)
		dst = append(append(dst, s[:]...), d[:]...)
	case inet6:
		s, d := source.Addr().As16(), destination.Addr().As16()
		dst = append(dst, proxy, inet6<<4|protocol, 0, 2*16+4)
		dst = append(append(dst, s[:]...), d[:]...)
	default:
		return append(dst, local, unspec, 0, 0)
	}
	dst = binary.BigEndian.AppendUint16(dst, source.Port())
	return binary.BigEndian.AppendUint16(dst, destination.Port())
}

// familyOf is the address family that can say both addresses.
func familyOf(a, b netip.AddrPort) byte {
	switch {
	case !a.IsValid() || !b.IsValid():
		return unspec
	case a.Addr().Unmap().Is4() && b.Addr().Unmap().Is4():
		return inet
	}
	return inet6
}
