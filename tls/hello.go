package tls

import "golang.org/x/crypto/cryptobyte"

// Hello is what a ClientHello says before any byte is answered. The slices
// belong to it.
type Hello struct {
	ServerName []byte   // as sent; empty when there was none
	ALPN       [][]byte // protocols offered, in order
	Versions   []uint16 // supported_versions, or the legacy version
}

// IsACME reports whether the client is an ACME server that validates by
// TLS-ALPN-01: "acme-tls/1" is all that it offers (RFC 8737 section 3).
func (h *Hello) IsACME() bool { return len(h.ALPN) == 1 && string(h.ALPN[0]) == "acme-tls/1" }

// parseHello is parse with a result that does not refer to message.
func parseHello(message []byte) (h Hello, err error) {
	if err := h.parse(message); err != nil {
		return Hello{}, err
	}
	h.own()
	return h, nil
}

// parse parses a whole ClientHello message, header included (RFC 8446 section
// 4.1.2). The structure must be right to the last byte; what the extensions
// hold is looked at only where Hello wants it. Afterwards h refers to message,
// and memory that it has had for its lists is used again.
func (h *Hello) parse(message []byte) error {
	h.ServerName, h.ALPN, h.Versions = nil, h.ALPN[:0], h.Versions[:0]
	var version uint16
	var session, ciphers, compressions cryptobyte.String
	s := cryptobyte.String(message[messageHeader:])
	switch {
	case !s.ReadUint16(&version) || !s.Skip(32):
		return badHello("no random")
	case !s.ReadUint8LengthPrefixed(&session) || len(session) > 32:
		return badHello("session id")
	case !s.ReadUint16LengthPrefixed(&ciphers) || len(ciphers) < 2 || len(ciphers)%2 != 0:
		return badHello("cipher suites")
	case !s.ReadUint8LengthPrefixed(&compressions) || len(compressions) == 0:
		return badHello("compression methods")
	}
	if len(s) > 0 { // before TLS 1.3 there may be no extensions at all
		if err := h.parseExtensions(s); err != nil {
			return err
		}
	}
	if len(h.Versions) == 0 {
		h.Versions = append(h.Versions, version)
	}
	return nil
}

// own moves the bytes that h refers to into one block of its own: it lives as
// long as the connection, what was read does not.
func (h *Hello) own() {
	size := len(h.ServerName)
	for _, p := range h.ALPN {
		size += len(p)
	}
	block := make([]byte, 0, size)
	keep := func(b []byte) []byte {
		start := len(block)
		block = append(block, b...)
		return block[start:len(block):len(block)]
	}
	if len(h.ServerName) > 0 {
		h.ServerName = keep(h.ServerName)
	}
	for i, p := range h.ALPN {
		h.ALPN[i] = keep(p)
	}
}
