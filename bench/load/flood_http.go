package load

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"

	"usher/bench/epoll"
	"usher/bench/share"
)

// request is the request of a plan, body included.
func (p Plan) request() []byte {
	if p.Kind == "post" {
		head := fmt.Sprintf("POST /p HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", Name, p.Size)
		return append([]byte(head), make([]byte, p.Size)...)
	}
	return fmt.Appendf(nil, "GET /b/%d HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", p.Size, Name)
}

type httpFlood struct {
	loop    *epoll.Loop
	count   *share.Counters
	peer    *epoll.Peer
	request []byte
	conns   []httpConn
	buffer  []byte
}

type httpConn struct {
	out  []byte // of the request, to be written
	in   []byte // an incomplete head
	body int64  // still to come
}

// floodHTTP keeps connections busy with one request each at a time.
func floodHTTP(p Plan, count *share.Counters) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	loop, err := epoll.New()
	if err != nil {
		return err
	}
	f := &httpFlood{loop: loop, count: count, peer: epoll.PeerOf(p.Addr), request: p.request(), conns: make([]httpConn, p.Conns+64), buffer: make([]byte, 16<<10)}
	for range p.Conns {
		if err := f.dial(); err != nil {
			return err
		}
	}
	for {
		if err := loop.Wait(-1, f.ready); err != nil {
			return err
		}
	}
}

func (f *httpFlood) dial() error {
	fd := epoll.Dial(f.peer)
	if fd < 0 || fd >= len(f.conns) {
		return errors.New("cannot dial")
	}
	epoll.NoDelay(fd)
	f.conns[fd] = httpConn{out: f.request}
	return f.loop.Add(fd) // which reports Out at once
}

func (f *httpFlood) ready(fd int, events uint32) {
	c := &f.conns[fd]
	if len(c.out) > 0 && !f.write(fd, c) {
		return
	}
	if events&^uint32(epoll.Out) != 0 {
		f.read(fd, c)
	}
}

// lost counts a failure and replaces the connection.
func (f *httpFlood) lost(fd int) {
	f.count.Failed.Add(1)
	epoll.Close(fd)
	if f.dial() != nil {
		f.count.Failed.Add(1)
	}
}

// write reports false if the connection was replaced.
func (f *httpFlood) write(fd int, c *httpConn) bool {
	n := epoll.Write(fd, c.out)
	if n == epoll.Failed {
		f.lost(fd)
		return false
	}
	c.out = c.out[max(n, 0):]
	return true
}

func (f *httpFlood) read(fd int, c *httpConn) {
	for {
		if c.body > 0 {
			n := epoll.Discard(fd, int(c.body))
			if n == epoll.Again {
				return
			}
			if n <= 0 {
				f.lost(fd)
				return
			}
			if c.body -= int64(n); c.body > 0 {
				continue
			}
		} else {
			n := epoll.Read(fd, f.buffer)
			if n == epoll.Again {
				return
			}
			if n <= 0 || !f.head(c, f.buffer[:n]) {
				f.lost(fd)
				return
			}
			if c.body > 0 || len(c.in) > 0 {
				if n < len(f.buffer) && len(c.in) > 0 {
					return
				}
				continue
			}
		}
		f.count.Done.Add(1)
		c.out = f.request
		if !f.write(fd, c) {
			return
		}
		return // a response cannot be there yet; its arrival is a new edge
	}
}

// head reads a response's head and reports false for anything but a 200 of
// known length.
func (f *httpFlood) head(c *httpConn, p []byte) bool {
	if len(c.in) > 0 {
		c.in = append(c.in, p...)
		p = c.in
	}
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		c.in = append(c.in[:0], p...)
		return len(p) < 16<<10
	}
	if !bytes.HasPrefix(p, []byte("HTTP/1.1 200")) {
		return false
	}
	size, ok := contentLength(p[:end+2])
	c.body = size - int64(len(p)-end-4)
	c.in = c.in[:0]
	return ok && c.body >= 0
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
