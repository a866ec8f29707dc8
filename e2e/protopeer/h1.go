package protopeer

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"usher/e2e/strict"
)

type h1Conn struct {
	*tls.Conn
	r     *bufio.Reader
	ended chan struct{}
}

func dialH1(addr string, conf *tls.Config) (Conn, error) {
	c, err := dialTLS(addr, conf)
	if err != nil {
		return nil, err
	}
	return &h1Conn{c, bufio.NewReader(c), make(chan struct{})}, nil
}

func dialTLS(addr string, conf *tls.Config) (*tls.Conn, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: Patience}, "tcp", addr, conf)
	if err != nil {
		return nil, err
	}
	if got := c.ConnectionState().NegotiatedProtocol; got != conf.NextProtos[0] {
		c.Close()
		return nil, fmt.Errorf("negotiated %q instead of %q", got, conf.NextProtos[0])
	}
	return c, nil
}

func (c *h1Conn) Ended() <-chan struct{} { return c.ended }

// Open writes the head; a body without a Content-Length is chunked.
func (c *h1Conn) Open(r Request, end bool) (Stream, error) {
	r.defaults()
	s := &h1Stream{c: c, method: r.Method}
	var b strings.Builder
	target := r.Path
	if r.Method == "CONNECT" {
		target = r.Authority
	}
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", r.Method, target, r.Authority)
	for _, f := range r.Fields {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	switch {
	case r.Protocol != "":
		fmt.Fprintf(&b, "Connection: Upgrade\r\nUpgrade: %s\r\n", r.Protocol)
	case !end && r.Fields.Get("Content-Length") == "":
		s.chunked = true
		b.WriteString("Transfer-Encoding: chunked\r\n")
	}
	c.SetDeadline(time.Now().Add(Patience))
	_, err := io.WriteString(c, b.String()+"\r\n")
	return s, err
}

type h1Stream struct {
	c       *h1Conn
	method  string
	chunked bool // what is sent

	head    bool  // a final one has come
	raw     bool  // of the response: until the end of the connection
	chunks  bool  // of the response
	left    int64 // of the response, or of the chunk
	err     error
	trailer Fields
}

func (s *h1Stream) Write(p []byte) (int, error) {
	s.c.SetWriteDeadline(time.Now().Add(Patience))
	if !s.chunked || len(p) == 0 {
		return s.c.Write(p)
	}
	if _, err := fmt.Fprintf(s.c, "%x\r\n%s\r\n", len(p), p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *h1Stream) End(trailer ...Field) error {
	if s.raw {
		return s.c.CloseWrite()
	}
	if !s.chunked {
		return nil
	}
	var b strings.Builder
	for _, f := range trailer {
		fmt.Fprintf(&b, "%s: %s\r\n", f.Name, f.Value)
	}
	_, err := io.WriteString(s.c, "0\r\n"+b.String()+"\r\n")
	return err
}

func (s *h1Stream) Cancel() { s.c.Close() }

func (s *h1Stream) Trailer() Fields { return s.trailer }

func (s *h1Stream) Head() (Head, error) {
	s.c.SetReadDeadline(time.Now().Add(Patience))
	p, err := strict.ReadResponseHead(s.c.r)
	if err != nil {
		return Head{}, err
	}
	h := Head{Status: p.Status}
	for _, f := range p.Header {
		h.Fields = append(h.Fields, Field(f))
	}
	if p.Status >= 200 || p.Status == 101 {
		return h, s.frame(p)
	}
	return h, nil
}

// frame notes how the body ends.
func (s *h1Stream) frame(p *strict.Response) error {
	s.head = true
	length := p.Header.Get("Content-Length")
	switch {
	case p.Status == 101:
		s.raw = true
	case s.method == "HEAD" || p.Status == 204 || p.Status == 304:
		s.err = io.EOF
	case p.Header.Has("Transfer-Encoding"):
		s.chunks = true
	case length != "":
		n, err := strconv.ParseInt(length, 10, 64)
		if s.left = n; n == 0 {
			s.err = io.EOF
		}
		return err
	default:
		return errors.New("a response that ends with the connection")
	}
	return nil
}

func (s *h1Stream) Read(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	s.c.SetReadDeadline(time.Now().Add(Patience))
	if s.raw {
		return s.c.r.Read(p)
	}
	if s.chunks && s.left == 0 {
		if s.err = s.chunk(); s.err != nil {
			return 0, s.err
		}
	}
	n, err = s.c.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	switch {
	case err == io.EOF:
		s.err = io.ErrUnexpectedEOF
	case err != nil:
		s.err = err
	case s.left == 0 && s.chunks:
		s.err = strict.ChunkEnd(s.c.r)
	case s.left == 0:
		s.err = io.EOF
	}
	return n, nil
}

// chunk begins the next chunk; io.EOF is the last.
func (s *h1Stream) chunk() (err error) {
	if s.left, err = strict.ChunkSize(s.c.r); err != nil || s.left > 0 {
		return err
	}
	for {
		line, err := s.c.r.ReadString('\n')
		if err != nil {
			return io.ErrUnexpectedEOF
		}
		if line == "\r\n" {
			return io.EOF
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\r\n"), ":")
		s.trailer = append(s.trailer, Field{name, strings.TrimSpace(value)})
	}
}
