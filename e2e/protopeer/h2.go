package protopeer

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// window is what a stream may send before somebody reads; the connection's is
// given back as DATA arrives.
const window = 1 << 20

// H2Conn is a connection in HTTP/2.
type H2Conn struct {
	TLS *tls.Conn

	mu      sync.Mutex
	changed sync.Cond
	fr      *http2.Framer
	enc     *hpack.Encoder
	block   bytes.Buffer
	streams map[uint32]*h2Stream
	next    uint32
	send    int64
	initial int64
	connect bool
	err     error
	ended   chan struct{}
	once    sync.Once
	settled chan struct{}
}

// DialH2 connects and waits for the SETTINGS of the server.
func DialH2(addr string, conf *tls.Config) (*H2Conn, error) {
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	conn, err := dialTLS(addr, conf)
	if err != nil {
		return nil, err
	}
	c := &H2Conn{TLS: conn, fr: http2.NewFramer(conn, conn), streams: map[uint32]*h2Stream{}, next: 1, send: 65535, initial: 65535,
		ended: make(chan struct{}), settled: make(chan struct{})}
	c.changed.L = &c.mu
	c.enc = hpack.NewEncoder(&c.block)
	c.fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.fr.AllowIllegalWrites = true
	conn.SetWriteDeadline(time.Now().Add(Patience))
	io.WriteString(conn, http2.ClientPreface)
	c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	c.fr.WriteWindowUpdate(0, 1<<30)
	go c.read()
	select {
	case <-c.settled:
	case <-c.ended:
	}
	return c, nil
}

// Close implements Conn.
func (c *H2Conn) Close() error { return c.TLS.Close() }

// Ended implements Conn.
func (c *H2Conn) Ended() <-chan struct{} { return c.ended }

// ExtendedConnect reports whether the server takes it (RFC 8441).
func (c *H2Conn) ExtendedConnect() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connect
}

func (c *H2Conn) read() {
	for {
		f, err := c.fr.ReadFrame()
		var broken http2.StreamError
		if err != nil && !errors.As(err, &broken) {
			c.mu.Lock()
			c.err = err
			for _, s := range c.streams {
				s.fail(fmt.Errorf("the connection ended: %w", err))
			}
			c.changed.Broadcast()
			c.mu.Unlock()
			c.end()
			return
		}
		c.mu.Lock()
		if err == nil {
			c.frame(f)
		} else if s := c.streams[broken.StreamID]; s != nil {
			s.fail(err)
		}
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

func (c *H2Conn) end() { c.once.Do(func() { close(c.ended) }) }

// frame takes one frame; mu is held.
func (c *H2Conn) frame(f http2.Frame) {
	c.TLS.SetWriteDeadline(time.Now().Add(Patience))
	s := c.streams[f.Header().StreamID]
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			c.settings(f)
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			c.fr.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		for id, s := range c.streams {
			if id > f.LastStreamID {
				s.fail(errRefused)
			}
		}
		c.end()
	case *http2.WindowUpdateFrame:
		if s != nil {
			s.send += int64(f.Increment)
		} else if f.StreamID == 0 {
			c.send += int64(f.Increment)
		}
	case *http2.DataFrame:
		if f.Length > 0 {
			c.fr.WriteWindowUpdate(0, f.Length)
		}
		if s != nil {
			s.body = append(s.body, f.Data()...)
			s.used += int64(f.Length)
			s.over = f.StreamEnded()
		}
	case *http2.MetaHeadersFrame:
		if s != nil {
			s.fields(f)
		}
	case *http2.RSTStreamFrame:
		if s != nil {
			s.fail(Reset{uint64(f.ErrCode)})
		}
	}
}

// errRefused is the error of a stream that a GOAWAY says was not processed.
var errRefused = errors.New("GOAWAY: not processed")

func (c *H2Conn) settings(f *http2.SettingsFrame) {
	f.ForeachSetting(func(x http2.Setting) error {
		switch x.ID {
		case http2.SettingInitialWindowSize:
			for _, s := range c.streams {
				s.send += int64(x.Val) - c.initial
			}
			c.initial = int64(x.Val)
		case http2.SettingEnableConnectProtocol:
			c.connect = x.Val == 1
		}
		return nil
	})
	c.fr.WriteSettingsAck()
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

// Open implements Conn.
func (c *H2Conn) Open(r Request, end bool) (Stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	s := &h2Stream{c: c, id: c.next, send: c.initial}
	c.next += 2
	c.streams[s.id] = s
	return s, c.headers(s.id, end, r.pseudo())
}

// headers writes a field section, in as many frames as it takes; mu is held.
func (c *H2Conn) headers(id uint32, end bool, fields Fields) error {
	c.block.Reset()
	for _, f := range fields {
		c.enc.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	c.TLS.SetWriteDeadline(time.Now().Add(Patience))
	b := c.block.Bytes()
	first := b[:min(len(b), 16384)]
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: len(first) == len(b), BlockFragment: first})
	for b = b[len(first):]; len(b) > 0 && err == nil; {
		n := min(len(b), 16384)
		err = c.fr.WriteContinuation(id, n == len(b), b[:n])
		b = b[n:]
	}
	return err
}

type h2Stream struct {
	c  *H2Conn
	id uint32

	heads   []Head
	body    []byte
	used    int64 // of the window, not given back
	trailer Fields
	final   bool
	over    bool // END_STREAM
	err     error
	send    int64
}

func (s *h2Stream) fail(err error) {
	if s.err == nil && !s.over {
		s.err = err
	}
}

// fields takes a head or a trailer; c.mu is held.
func (s *h2Stream) fields(f *http2.MetaHeadersFrame) {
	var h Head
	for _, x := range f.Fields {
		if x.Name == ":status" {
			h.Status, _ = strconv.Atoi(x.Value)
			continue
		}
		h.Fields = append(h.Fields, Field{x.Name, x.Value})
	}
	s.over = f.StreamEnded()
	if s.final {
		s.trailer = h.Fields
		return
	}
	s.final = h.Status >= 200
	s.heads = append(s.heads, h)
}

// wait waits until ok; c.mu is held.
func (s *h2Stream) wait(ok func() bool) error {
	late := false
	t := time.AfterFunc(Patience, func() {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		late = true
		s.c.changed.Broadcast()
	})
	defer t.Stop()
	for !ok() {
		if s.err != nil {
			return s.err
		}
		if late {
			return fmt.Errorf("stream %d: nothing for %v", s.id, Patience)
		}
		s.c.changed.Wait()
	}
	return nil
}

func (s *h2Stream) Head() (Head, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.wait(func() bool { return len(s.heads) > 0 }); err != nil {
		return Head{}, err
	}
	h := s.heads[0]
	s.heads = s.heads[1:]
	return h, nil
}

func (s *h2Stream) Read(p []byte) (int, error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if err := s.wait(func() bool { return len(s.body) > 0 || s.over }); err != nil {
		return 0, err
	}
	n := copy(p, s.body)
	s.body = s.body[n:]
	if n == 0 {
		return 0, io.EOF
	}
	if len(s.body) == 0 && s.used > 0 && !s.over {
		s.c.fr.WriteWindowUpdate(s.id, uint32(s.used))
		s.used = 0
	}
	return n, nil
}

func (s *h2Stream) Trailer() Fields {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return s.trailer
}

func (s *h2Stream) Write(p []byte) (written int, err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	for len(p) > 0 {
		if err := s.wait(func() bool { return s.send > 0 && s.c.send > 0 || s.over }); err != nil {
			return written, err
		}
		if s.over {
			return written, errors.New("the response is over")
		}
		n := min(int64(len(p)), 16384, s.send, s.c.send)
		s.send -= n
		s.c.send -= n
		s.c.TLS.SetWriteDeadline(time.Now().Add(Patience))
		if err := s.c.fr.WriteData(s.id, false, p[:n]); err != nil {
			return written, err
		}
		written += int(n)
		p = p[n:]
	}
	return written, nil
}

func (s *h2Stream) End(trailer ...Field) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if len(trailer) > 0 {
		return s.c.headers(s.id, true, trailer)
	}
	return s.c.fr.WriteData(s.id, true, nil)
}

func (s *h2Stream) Cancel() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.c.fr.WriteRSTStream(s.id, http2.ErrCodeCancel)
	s.fail(errors.New("cancelled"))
	delete(s.c.streams, s.id)
}
