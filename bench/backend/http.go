package backend

import (
	"bytes"
	"encoding/binary"
	"strconv"
)

const chunked = -1

// requests answers the requests in p and returns what is left of it.
func (s *server) requests(c *conn, p []byte) (rest []byte, ok bool) {
	for len(p) > 0 {
		switch {
		case c.body > 0:
			n := min(int64(len(p)), c.body)
			p = p[n:]
			if c.body -= n; c.body == 0 {
				s.respond(c, 128)
			}
			continue
		case c.body == chunked:
			if !s.chunks(c, p) {
				return nil, true
			}
			p = nil
			s.respond(c, 128)
			continue
		}
		end := bytes.Index(p, []byte("\r\n\r\n"))
		if end < 0 {
			return p, len(p) < 64<<10
		}
		head := p[:end+2]
		p = p[end+4:]
		if bytes.HasPrefix(head, []byte("GET /b/")) {
			size, ok := number(head[len("GET /b/"):])
			if !ok {
				return nil, false
			}
			s.respond(c, size)
			continue
		}
		if !bytes.HasPrefix(head, []byte("POST ")) {
			return nil, false
		}
		if c.body = length(head); c.body == 0 {
			s.respond(c, 128)
		}
		if c.body == chunked {
			c.tail = c.tail[:0]
		}
	}
	return nil, true
}

// chunks reports whether a chunked body, of which p is the next piece, is
// complete. The bench's bodies are zeros, so that its end cannot occur in them.
func (s *server) chunks(c *conn, p []byte) bool {
	c.tail = append(c.tail, p[max(0, len(p)-7):]...)
	c.tail = append(c.tail[:0], c.tail[max(0, len(c.tail)-7):]...)
	if string(c.tail) != "\r\n0\r\n\r\n" {
		return false
	}
	c.body = 0
	return true
}

// respond queues a response with a body of size bytes.
func (s *server) respond(c *conn, size int64) {
	s.count.Requests.Add(1)
	r := s.responses[size]
	if r == nil {
		r = append(r, "HTTP/1.1 200 OK\r\nDate: Mon, 02 Nov 2026 10:00:00 GMT\r\nServer: backend\r\nContent-Type: text/plain\r\nContent-Length: "...)
		r = append(strconv.AppendInt(r, size, 10), "\r\n\r\n"...)
		if size <= inMemory {
			r = append(r, make([]byte, size)...)
		}
		s.responses[size] = r
	}
	c.out = r
	if size > inMemory {
		c.file = size
	}
}

// number reads digits up to a space.
func number(p []byte) (n int64, ok bool) {
	for i, b := range p {
		if b < '0' || b > '9' {
			return n, b == ' ' && i > 0
		}
		n = n*10 + int64(b-'0')
	}
	return 0, false
}

// length is the body's length, or chunked.
func length(head []byte) int64 {
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		if bytes.EqualFold(name, []byte("Content-Length")) {
			n, _ := strconv.ParseInt(string(value), 10, 64)
			return n
		}
		if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
			return chunked
		}
	}
	return 0
}

// tunnel takes the hello, then what is asked for, and returns what is left.
func (s *server) tunnel(c *conn, p []byte) (rest []byte) {
	if !c.hello {
		if len(p) < 5 || len(p) < 5+int(binary.BigEndian.Uint16(p[3:])) {
			return p
		}
		c.hello = true
		p = p[5+int(binary.BigEndian.Uint16(p[3:])):]
		if c.mode == once {
			s.count.Requests.Add(1)
			c.out, c.close = tiny, true
			return nil
		}
	}
	for len(p) >= 8 {
		s.count.Requests.Add(1)
		c.file += int64(binary.BigEndian.Uint64(p))
		p = p[8:]
	}
	return p
}
