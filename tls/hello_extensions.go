package tls

import (
	"bytes"
	"slices"

	"golang.org/x/crypto/cryptobyte"
)

// Extensions of RFC 6066, RFC 7301 and RFC 8446 section 4.2.
const (
	extServerName        = 0
	extALPN              = 16
	extSupportedVersions = 43
)

// Clients send about 20 extensions and a handful of protocols. The bounds keep
// the work and the memory for a hello in proportion to its size.
const (
	maxExtensions = 256
	maxProtocols  = 1024
)

// parseExtensions parses the extensions block, which s must be to its end.
func (h *Hello) parseExtensions(s cryptobyte.String) error {
	var list, body cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || len(s) > 0 {
		return badHello("length of the extensions")
	}
	var space [maxExtensions]uint16
	seen := space[:0]
	for len(list) > 0 {
		var kind uint16
		switch {
		case !list.ReadUint16(&kind) || !list.ReadUint16LengthPrefixed(&body):
			return badHello("extension cut off")
		case slices.Contains(seen, kind):
			return badHello("extension sent twice")
		case len(seen) == maxExtensions:
			return badHello("over 256 extensions")
		}
		seen = append(seen, kind)
		if reason := h.parseExtension(kind, body); reason != "" {
			return badHello(reason)
		}
	}
	return nil
}

func (h *Hello) parseExtension(kind uint16, body cryptobyte.String) (reason string) {
	switch kind {
	case extServerName:
		return h.parseServerName(body)
	case extALPN:
		return h.parseALPN(body)
	case extSupportedVersions:
		return h.parseVersions(body)
	}
	return ""
}

// parseServerName accepts exactly one name, a host_name (RFC 6066 section 3).
// Other name types were never defined; OpenSSL refuses them as well. Whether the
// name is a hostname is for the caller to find out.
func (h *Hello) parseServerName(body cryptobyte.String) (reason string) {
	var list, name cryptobyte.String
	var kind uint8
	switch {
	case !body.ReadUint16LengthPrefixed(&list) || len(body) > 0,
		!list.ReadUint8(&kind) || kind != 0,
		!list.ReadUint16LengthPrefixed(&name) || len(name) == 0:
		return "server_name"
	case len(list) > 0:
		return "two server names"
	}
	h.ServerName = name
	return ""
}

// parseALPN is RFC 7301 section 3.1.
func (h *Hello) parseALPN(body cryptobyte.String) (reason string) {
	var list, name cryptobyte.String
	if !body.ReadUint16LengthPrefixed(&list) || len(body) > 0 || len(list) == 0 {
		return "ALPN"
	}
	if cap(h.ALPN) == 0 {
		h.ALPN = make([][]byte, 0, min(maxProtocols, 1+bytes.Count(list, []byte("/"))))
	}
	for len(list) > 0 {
		if !list.ReadUint8LengthPrefixed(&name) || len(name) == 0 {
			return "ALPN protocol"
		}
		if len(h.ALPN) == maxProtocols {
			return "over 1024 ALPN protocols"
		}
		h.ALPN = append(h.ALPN, name)
	}
	return ""
}

// parseVersions is RFC 8446 section 4.2.1.
func (h *Hello) parseVersions(body cryptobyte.String) (reason string) {
	var list cryptobyte.String
	if !body.ReadUint8LengthPrefixed(&list) || len(body) > 0 || len(list) == 0 || len(list)%2 != 0 {
		return "supported_versions"
	}
	h.Versions = slices.Grow(h.Versions, len(list)/2)[:len(list)/2]
	for i := range h.Versions {
		list.ReadUint16(&h.Versions[i])
	}
	return ""
}
