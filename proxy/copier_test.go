package proxy

import (
	"bytes"
	"io"
	"testing"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// bursts is a body that comes in bursts: nothing of the next is there before
// somebody waits for it.
type bursts struct {
	sizes []int
	now   int // bytes of the burst that are there
}

func (b *bursts) TryRead(p []byte) (int, error) {
	switch {
	case b.now > 0:
		n := min(len(p), b.now)
		b.now -= n
		return copy(p[:n], bytes.Repeat([]byte{'x'}, n)), nil
	case len(b.sizes) == 0:
		return 0, io.EOF
	}
	return 0, socket.ErrWait
}

func (b *bursts) Read(p []byte) (int, error) {
	if b.now == 0 && len(b.sizes) > 0 {
		b.now, b.sizes = b.sizes[0], b.sizes[1:]
	}
	return b.TryRead(p)
}

func (*bursts) Stop(error) {}

// flushes counts what a stream got and what of it was held back.
type flushes struct {
	message.Stream
	sent, held int
	t          *testing.T
}

func (f *flushes) Write(p []byte) (int, error) { f.held += len(p); return len(p), nil }
func (f *flushes) Flush() error                { f.sent, f.held = f.sent+f.held, 0; return nil }

// waiting fails when somebody waits for a body while bytes are held back.
type waiting struct {
	*bursts
	stream *flushes
}

func (w waiting) Read(p []byte) (int, error) {
	if w.stream.held > 0 {
		w.stream.t.Errorf("%d bytes are held back during a wait", w.stream.held)
	}
	return w.bursts.Read(p)
}

// TestBodiesAreFlushedBeforeAWait has bodies of small and growing bursts: none
// is kept from the client until the next one comes.
func TestBodiesAreFlushedBeforeAWait(t *testing.T) {
	for _, length := range []int64{message.Unknown, 1 << 20} {
		for _, sizes := range [][]int{{1, 1, 1}, {10, 32 << 10, 5}, {1 << 20}, {64 << 10, 300 << 10, 700 << 10, 1}} {
			total := 0
			for _, n := range sizes {
				total += n
			}
			stream := &flushes{t: t}
			ex := &message.Exchange{Stream: stream}
			ex.Response.Body, ex.Response.Length = waiting{&bursts{sizes: sizes}, stream}, length
			if err := (&Proxy{}).relayBody(ex); err != nil {
				t.Error(err)
			}
			if stream.Flush(); stream.sent != total || ex.Trace.Sent != int64(total) {
				t.Errorf("%v: %d bytes sent, %d counted, want %d", sizes, stream.sent, ex.Trace.Sent, total)
			}
		}
	}
}

// swift is a stream that says whether its client keeps up.
type swift struct {
	message.Stream
	is bool
}

func (s *swift) Swift() bool { return s.is }

// TestPiecesOfABody has a client that keeps up, whose pieces grow, and one that
// does not any more, for whom no large buffer is kept.
func TestPiecesOfABody(t *testing.T) {
	stream := &swift{is: true}
	c := copier{stream: stream}
	c.start(message.Unknown)
	for _, want := range []int{longBuffer, swiftBuffer, swiftBuffer} {
		if c.grow(len(c.buf)); len(c.buf) != want {
			t.Errorf("a buffer of %d bytes, want %d", len(c.buf), want)
		}
	}
	if c.grow(1); len(c.buf) != swiftBuffer {
		t.Errorf("a buffer of %d bytes after a short piece", len(c.buf))
	}
	stream.is = false
	if c.grow(1); len(c.buf) != longBuffer {
		t.Errorf("a buffer of %d bytes for a client that is slow", len(c.buf))
	}
	if c.grow(len(c.buf)); len(c.buf) != longBuffer {
		t.Errorf("a buffer of %d bytes for a client that was slow", len(c.buf))
	}
	c.end()

	stream.is = true
	large := 0
	for range swiftMost + 10 {
		c := copier{stream: stream}
		c.start(message.Unknown)
		c.grow(len(c.buf))
		c.grow(len(c.buf))
		defer c.end()
		if len(c.buf) == swiftBuffer {
			large++
		}
	}
	if large != swiftMost {
		t.Errorf("%d have large buffers, want %d", large, swiftMost)
	}
}
