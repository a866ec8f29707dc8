package load

import (
	"bytes"
	"fmt"

	"usher/bench/epoll"
	"usher/bench/share"
)

// request is the request of a plan, body included.
func (p Plan) request() []byte {
	if p.Kind == "post" {
		head := fmt.Sprintf("POST /p HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", Name, p.Size)
		return append([]byte(head), make([]byte, p.Size)...)
	}
	closing := ""
	if p.Kind == "tls-full" || p.Kind == "tls-resumed" {
		closing = "Connection: close\r\n"
	}
	return fmt.Appendf(nil, "GET /b/%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n%s\r\n", p.Size, Name, closing)
}

// httpFlood is one request at a time on kept connections.
type httpFlood struct {
	count   *share.Counters
	request []byte
	buffer  []byte
}

// response is what is known of one that is being read.
type response struct {
	in   []byte // an incomplete head
	body int64  // still to come
}

func (f *httpFlood) open() ([]byte, any, error) { return f.request, new(response), nil }

func (f *httpFlood) read(fd int, s *slot, _ bool) (next []byte, over bool) {
	r := s.state.(*response)
	for {
		var n int
		if r.body > 0 {
			if n = epoll.Discard(fd, int(r.body)); n > 0 {
				r.body -= int64(n)
			}
		} else if n = epoll.Read(fd, f.buffer); n > 0 && !r.head(f.buffer[:n]) {
			n = epoll.Failed
		}
		switch {
		case n == epoll.Again:
			return nil, false
		case n <= 0:
			f.count.Failed.Add(1)
			return nil, true
		case r.body == 0 && len(r.in) == 0:
			f.count.Done.Add(1)
			return f.request, false // the next response is a new edge
		}
	}
}

// head reads a response's head and reports false for anything but a 200 of
// known length.
func (r *response) head(p []byte) bool {
	if len(r.in) > 0 {
		r.in = append(r.in, p...)
		p = r.in
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		r.in = append(r.in[:0], p...)
		return len(p) < 16<<10
	}
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 200")) {
		return false
	}
	size, ok := contentLength(p[:end+2])
	r.body = size - int64(len(p)-end-4)
	r.in = r.in[:0]
	return ok && r.body >= 0
}

// contentLength finds the field in either of the spellings that are in use.
func contentLength(head []byte) (int64, bool) {
	i := bytes.Index(head, []byte("\r\nContent-Length: "))
	if i < 0 {
		if i = bytes.Index(head, []byte("\r\ncontent-length: ")); i < 0 {
			return 0, false
		}
	}
	var n int64
	for _, b := range head[i+len("\r\nContent-Length: "):] {
		if b < '0' || b > '9' {
			break
		}
		n = n*10 + int64(b-'0')
	}
	return n, true
}
