// Package strict reads HTTP/1.1 messages exactly as RFC 9112 writes them and
// takes every deviation for an error. The tests' clients and VMs read with it,
// so that nothing lenient stands between usher and a verdict.
package strict

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Field is one field line; the name is as it was sent.
type Field struct{ Name, Value string }

// Header is a header or trailer section in order.
type Header []Field

// Get returns the value of the first field called name, in any case, or "".
func (h Header) Get(name string) string {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// Values returns the values of all fields called name, in any case.
func (h Header) Values(name string) (values []string) {
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			values = append(values, f.Value)
		}
	}
	return values
}

// Has reports whether there is a field called name, in any case.
func (h Header) Has(name string) bool { return len(h.Values(name)) > 0 }

// Message is what a request and a response have in common.
type Message struct {
	Header  Header
	Body    []byte
	Trailer Header
	Chunks  int // data chunks, when the body was chunked
}

const maxLine = 1 << 20

// line reads one line that ends in CRLF and holds no other CR, LF or NUL.
func line(r *bufio.Reader) (string, error) {
	var b []byte
	for {
		c, err := r.ReadByte()
		if err != nil {
			if err == io.EOF && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return "", err
		}
		if c == '\n' && len(b) > 0 && b[len(b)-1] == '\r' {
			b = b[:len(b)-1]
			break
		}
		if b = append(b, c); len(b) > maxLine {
			return "", fmt.Errorf("line over %d bytes", maxLine)
		}
	}
	if i := strings.IndexAny(string(b), "\r\n\x00"); i >= 0 {
		return "", fmt.Errorf("CR, LF or NUL inside the line %q", b)
	}
	return string(b), nil
}

// fields reads field lines up to the empty line (RFC 9112 section 5).
func fields(r *bufio.Reader) (h Header, err error) {
	for {
		l, err := line(r)
		if err != nil {
			return nil, noEOF(err)
		}
		if l == "" {
			return h, nil
		}
		name, value, ok := strings.Cut(l, ":")
		if !ok || !token(name) {
			return nil, fmt.Errorf("field line %q has no valid name", l)
		}
		if !fieldValue(value) {
			return nil, fmt.Errorf("field %q has a control byte in %q", name, value)
		}
		h = append(h, Field{name, strings.Trim(value, " \t")})
	}
}

func token(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

func fieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '\t' && c < ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

// framing is how a body ends.
type framing struct {
	chunked bool
	length  int64 // -1: no Content-Length
}

// frame reads the framing fields: at most one of them, exactly spelled.
func frame(h Header) (framing, error) {
	lengths, codings := h.Values("Content-Length"), h.Values("Transfer-Encoding")
	switch {
	case len(lengths)+len(codings) == 0:
		return framing{length: -1}, nil
	case len(lengths)+len(codings) > 1:
		return framing{}, fmt.Errorf("framing is doubtful: Content-Length %q, Transfer-Encoding %q", lengths, codings)
	case len(codings) == 1:
		if !strings.EqualFold(codings[0], "chunked") {
			return framing{}, fmt.Errorf("transfer coding %q", codings[0])
		}
		return framing{chunked: true, length: -1}, nil
	}
	if lengths[0] == "" || strings.Trim(lengths[0], "0123456789") != "" {
		return framing{}, fmt.Errorf("content length %q", lengths[0])
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	return framing{length: n}, err
}

// noEOF makes an end inside a message visible as one.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
