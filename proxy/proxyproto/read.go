package proxyproto

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"usher/proxy/socket"
)

// ErrHeader is wrapped, with the reason, by every error of Read but io.EOF. The
// connection has to be closed.
var ErrHeader = errors.New("bad PROXY header")

// Header is what a PROXY header says. IPv4-mapped addresses are IPv4.
type Header struct {
	// Source and Destination are those of the client's connection. They are
	// both invalid when the sender does not know them or they are no TCP
	// addresses: then the real ones of the connection count.
	Source, Destination netip.AddrPort
	// Local: the sender speaks for itself (a health check).
	Local bool
}

const (
	// firstRead is enough for every header without large TLVs.
	firstRead = 256
	// maxTLVs bounds what follows the fixed part of version 2. The
	// specification asks that a header fits one segment.
	maxTLVs = 4096
)

// Read reads one header from c, version 1 or 2, and unreads what came behind
// it, so that the next Read begins with the byte after the header. On error
// everything is unread. It fails at the first byte that no header has there.
// The read deadline is the caller's.
//
// The error is io.EOF when the peer closed without a byte, else one that wraps
// ErrHeader and, if c.Read failed, that error: io.ErrUnexpectedEOF when the peer
// closed within the header.
func Read(c *socket.Socket) (Header, error) {
	buf := make([]byte, 0, firstRead)
	for {
		n, err := c.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+max(n, 0)]
		h, size, reason := parse(buf)
		switch {
		case reason != "":
			c.Unread(buf)
			return Header{}, fmt.Errorf("%w: %s", ErrHeader, reason)
		case size > 0 && size <= len(buf):
			if size < len(buf) {
				c.Unread(buf[size:])
			}
			return h, nil
		case err == io.EOF && len(buf) == 0:
			return Header{}, io.EOF
		case err != nil:
			c.Unread(buf)
			return Header{}, cutOff(err)
		case size > cap(buf):
			buf = append(make([]byte, 0, size), buf...)
		}
	}
}

func cutOff(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: cut off: %w", ErrHeader, err)
}

// parse parses the header that b begins with. size is that of the whole header
// as soon as it is known; when it is more than b has, or 0, more has to be read.
func parse(b []byte) (h Header, size int, reason string) {
	switch {
	case begins(b, prefixV1):
		return parseV1(b)
	case begins(b, signatureV2):
		return parseV2(b)
	}
	return Header{}, 0, "no PROXY header"
}

// begins reports whether b begins with start, as far as it goes.
func begins(b []byte, start string) bool {
	return bytes.HasPrefix([]byte(start), b[:min(len(b), len(start))])
}
