package tls

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"usher/proxy/socket"
)

var (
	// ErrNotTLS: the first byte cannot begin a TLS handshake (RFC 8446 section
	// 5.1). The hello of SSL 2.0 is no TLS either.
	ErrNotTLS = errors.New("not TLS")
	// ErrHello is wrapped, with the reason, by the error for a ClientHello that
	// is too large or cannot be parsed. The answer is the alert DecodeError.
	ErrHello = errors.New("bad ClientHello")
)

// usualHello is room for what browsers send with post-quantum key shares, to the
// byte a size of the allocator.
const usualHello = 2304

// Peek reads a ClientHello over any number of segments and at most 64 records,
// at most limit bytes with whatever came behind it, and unreads every byte
// again, so that the next Read of c starts with the hello. That holds for every
// error too. The read deadline is the caller's.
//
// The errors are ErrNotTLS, as soon as the first byte says so; one that wraps
// ErrHello; io.EOF when the client closed without a byte; or one that wraps the
// error of Read, which is io.ErrUnexpectedEOF when it closed within the hello.
func Peek(c *socket.Socket, limit int) (Hello, error) {
	read, message, err := readHello(c, limit)
	if len(read) > 0 {
		defer c.Unread(read)
	}
	if err != nil {
		return Hello{}, err
	}
	return parseHello(message)
}

// Find is Peek for a ClientHello that b begins with, if all of it is there in
// one record. It reports false for everything else, of which h then says
// nothing: Peek finds out what it is. h refers to b and is to be used again.
func (h *Hello) Find(b []byte) bool {
	size, err := scanHello(b, len(b))
	if err != nil || size == 0 || recordHeader+size > len(b) || int(binary.BigEndian.Uint16(b[3:])) < size {
		return false
	}
	return h.parse(b[recordHeader:recordHeader+size]) == nil
}

// readHello returns the ClientHello message and all that was read for it.
func readHello(c *socket.Socket, limit int) (read, message []byte, err error) {
	read = make([]byte, 0, min(limit, usualHello))
	for len(read) < limit {
		if len(read) == cap(read) {
			read = append(make([]byte, 0, min(limit, 4*cap(read))), read...)
		}
		n, err := c.Read(read[len(read):cap(read)])
		if n > 0 {
			read = read[:len(read)+n]
			size, err := scanHello(read, limit)
			if err != nil {
				return read, nil, err
			}
			if size > 0 {
				return read, joinRecords(read, size), nil
			}
		}
		if err != nil {
			return read, nil, readError(err, len(read))
		}
	}
	return read, nil, tooLarge(limit)
}

func readError(err error, read int) error {
	if err == io.EOF {
		if read == 0 {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("reading the ClientHello: %w", err)
}

func tooLarge(limit int) error { return fmt.Errorf("%w: over %d bytes", ErrHello, limit) }

func badHello(reason string) error { return fmt.Errorf("%w: %s", ErrHello, reason) }
