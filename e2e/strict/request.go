package strict

import (
	"bufio"
	"fmt"
	"strings"
)

// Request is one request as a VM received it.
type Request struct {
	Method, Target string
	Message
}

// ReadRequestHead reads a request line and its fields and judges them all; the
// error is io.EOF only between two requests.
func ReadRequestHead(r *bufio.Reader) (*Request, error) {
	l, err := line(r)
	if err != nil {
		return nil, err
	}
	parts := strings.Split(l, " ")
	if len(parts) != 3 || !token(parts[0]) || parts[2] != "HTTP/1.1" {
		return nil, fmt.Errorf("request line %q", l)
	}
	q := &Request{Method: parts[0], Target: parts[1]}
	if !target(q.Method, q.Target) {
		return nil, fmt.Errorf("request target %q", q.Target)
	}
	if q.Header, err = fields(r); err != nil {
		return nil, err
	}
	if hosts := q.Header.Values("Host"); len(hosts) != 1 {
		return nil, fmt.Errorf("host fields: %q", hosts)
	}
	_, err = frame(q.Header)
	return q, err
}

// ReadBody reads what follows the head.
func (q *Request) ReadBody(r *bufio.Reader) error {
	f, err := frame(q.Header)
	if err != nil {
		return err
	}
	return q.body(r, f)
}

// ReadRequest reads a whole request.
func ReadRequest(r *bufio.Reader) (*Request, error) {
	q, err := ReadRequestHead(r)
	if err != nil {
		return nil, err
	}
	return q, q.ReadBody(r)
}

// Framed reports whether the request announces a body.
func (q *Request) Framed() bool {
	f, err := frame(q.Header)
	return err == nil && (f.chunked || f.length > 0)
}

// target accepts origin-form, and * for OPTIONS. Beyond RFC 3986 it lets the
// printable bytes pass that browsers send unescaped (| ^ { } and the like),
// but no space, control, fragment or non-ASCII byte.
func target(method, s string) bool {
	if s == "*" {
		return method == "OPTIONS"
	}
	if s == "" || s[0] != '/' {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '#' {
			return false
		}
	}
	return true
}
