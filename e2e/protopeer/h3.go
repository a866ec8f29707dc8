package protopeer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"
)

// Frame and stream types of RFC 9114 that are used here, and the code of a
// request that is given up.
const (
	h3Data      = 0x0
	h3Headers   = 0x1
	h3Settings  = 0x4
	h3GoAway    = 0x7
	h3Control   = 0x0
	h3Cancelled = 0x10c
)

type h3Conn struct {
	conn  *quic.Conn
	ended chan struct{}
	once  sync.Once
}

// DialQUIC opens a QUIC connection for HTTP/3, on which each stream may have
// so many bytes that were not read.
func DialQUIC(addr string, conf *tls.Config, streamWindow uint64) (*quic.Conn, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{"h3"}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	return quic.DialAddr(ctx, addr, conf, &quic.Config{
		MaxIdleTimeout: 2 * Patience, InitialStreamReceiveWindow: streamWindow, MaxStreamReceiveWindow: streamWindow,
		InitialConnectionReceiveWindow: 16 << 20, MaxConnectionReceiveWindow: 64 << 20,
	})
}

func dialH3(addr string, conf *tls.Config) (Conn, error) {
	conn, err := DialQUIC(addr, conf, window)
	if err != nil {
		return nil, err
	}
	control, err := conn.OpenUniStream()
	if err != nil {
		return nil, err
	}
	control.Write([]byte{h3Control, h3Settings, 0})
	c := &h3Conn{conn: conn, ended: make(chan struct{})}
	go c.accept()
	return c, nil
}

// accept reads what the server's own streams say.
func (c *h3Conn) accept() {
	defer c.end()
	for {
		s, err := c.conn.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		go c.control(s)
	}
}

func (c *h3Conn) end() { c.once.Do(func() { close(c.ended) }) }

func (c *h3Conn) control(s *quic.ReceiveStream) {
	r := bufio.NewReader(s)
	if kind, err := quicvarint.Read(r); err != nil || kind != h3Control {
		io.Copy(io.Discard, r)
		return
	}
	for {
		kind, payload, err := h3Frame(r)
		if err != nil {
			return
		}
		if kind == h3GoAway {
			c.end()
		}
		io.CopyN(io.Discard, r, payload)
	}
}

// h3Frame reads the beginning of a frame; io.EOF is the end before one.
func h3Frame(r *bufio.Reader) (kind uint64, payload int64, err error) {
	if _, err := r.Peek(1); err != nil {
		return 0, 0, err
	}
	if kind, err = quicvarint.Read(r); err != nil {
		return 0, 0, cutShort(err)
	}
	n, err := quicvarint.Read(r)
	return kind, int64(n), cutShort(err)
}

func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (c *h3Conn) Close() error { return c.conn.CloseWithError(0x100, "") }

func (c *h3Conn) Ended() <-chan struct{} { return c.ended }

func (c *h3Conn) Open(r Request, end bool) (Stream, error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	q, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, err
	}
	s := &h3Stream{q: q, r: bufio.NewReader(q)}
	if err := s.headers(r.pseudo()); err != nil {
		return nil, err
	}
	if end {
		return s, q.Close()
	}
	return s, nil
}

type h3Stream struct {
	q       *quic.Stream
	r       *bufio.Reader
	dec     qpack.Decoder
	left    int64 // of a DATA frame
	trailer Fields
	err     error
}

func (s *h3Stream) headers(fields Fields) error {
	var b bytes.Buffer
	enc := qpack.NewEncoder(&b)
	for _, f := range fields {
		enc.WriteField(qpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	return s.frame(h3Headers, b.Bytes())
}

func (s *h3Stream) frame(kind uint64, payload []byte) error {
	b := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	s.q.SetWriteDeadline(time.Now().Add(Patience))
	_, err := s.q.Write(append(b, payload...))
	return reset(err)
}

// reset makes the error of a stream that was reset one of ours.
func reset(err error) error {
	var e *quic.StreamError
	if errors.As(err, &e) && e.Remote {
		return Reset{uint64(e.ErrorCode)}
	}
	return err
}

func (s *h3Stream) Write(p []byte) (int, error) {
	if err := s.frame(h3Data, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *h3Stream) End(trailer ...Field) error {
	if len(trailer) > 0 {
		if err := s.headers(trailer); err != nil {
			return err
		}
	}
	return s.q.Close()
}

func (s *h3Stream) Cancel() {
	s.q.CancelWrite(h3Cancelled)
	s.q.CancelRead(h3Cancelled)
}

func (s *h3Stream) Trailer() Fields { return s.trailer }

func (s *h3Stream) Head() (Head, error) {
	s.q.SetReadDeadline(time.Now().Add(Patience))
	for {
		kind, n, err := h3Frame(s.r)
		if err != nil {
			return Head{}, reset(cutShort(err))
		}
		if kind == h3Headers {
			return s.head(n)
		}
		if kind == h3Data {
			return Head{}, errors.New("DATA before a head")
		}
		io.CopyN(io.Discard, s.r, n)
	}
}

// head reads a field section.
func (s *h3Stream) head(n int64) (h Head, err error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(s.r, b); err != nil {
		return h, reset(cutShort(err))
	}
	for next := s.dec.Decode(b); ; {
		f, err := next()
		if err == io.EOF {
			return h, nil
		}
		if err != nil {
			return h, err
		}
		if f.Name == ":status" {
			if h.Status, err = strconv.Atoi(f.Value); err != nil {
				return h, fmt.Errorf("status %q", f.Value)
			}
			continue
		}
		h.Fields = append(h.Fields, Field{f.Name, f.Value})
	}
}

func (s *h3Stream) Read(p []byte) (int, error) {
	for s.left == 0 && s.err == nil {
		s.err = s.next()
	}
	if s.err != nil {
		return 0, s.err
	}
	s.q.SetReadDeadline(time.Now().Add(Patience))
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if err != nil && (err != io.EOF || s.left > 0) {
		s.err = reset(cutShort(err))
	}
	return n, s.err
}

// next finds the next DATA frame; io.EOF is the end of the stream.
func (s *h3Stream) next() error {
	s.q.SetReadDeadline(time.Now().Add(Patience))
	kind, n, err := h3Frame(s.r)
	if err != nil {
		return reset(err)
	}
	switch kind {
	case h3Data:
		s.left = n
	case h3Headers:
		h, err := s.head(n)
		s.trailer = h.Fields
		return err
	default:
		_, err = io.CopyN(io.Discard, s.r, n)
	}
	return reset(cutShort(err))
}
