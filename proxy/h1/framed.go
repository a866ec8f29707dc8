package h1

import (
	"io"

	"usher/proxy/message"
)

// framing is how the end of a body is known (RFC 9112 section 6.3).
type framing uint8

const (
	noBody framing = iota
	byLength
	byChunks
	byClose
)

// framed reads one body from an input. An interrupted read may be taken up
// again.
type framed struct {
	in      *input
	mode    framing
	left    int64 // byLength: bytes to come
	chunks  chunks
	head    *facts // of the message
	trailer *message.Header
	ended   bool
}

func (f *framed) start(in *input, mode framing, length int64, head *facts, trailer *message.Header) {
	*f = framed{}
	f.in, f.mode, f.left, f.head, f.trailer = in, mode, length, head, trailer
	f.ended = mode == noBody
}

// read fills p as far as one system call allows. io.EOF comes with the last
// bytes where it is known by then; errCutBody is an end that comes too early.
func (f *framed) read(p []byte) (n int, err error) {
	switch {
	case f.ended:
		return 0, io.EOF
	case f.mode == byLength:
		n, err = f.readLength(p)
	case f.mode == byChunks:
		n, err = f.readChunks(p)
	default:
		if n, err = f.some(p); err == io.EOF {
			f.ended = true
		}
		return n, err
	}
	switch {
	case f.ended:
		return n, io.EOF
	case err == io.EOF:
		return n, errCutBody
	}
	return n, err
}

func (f *framed) readLength(p []byte) (n int, err error) {
	n, err = f.some(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	f.ended = f.left == 0
	return n, err
}

// some hands out what has arrived, or else reads once. A read that would be
// small goes through the buffer.
func (f *framed) some(p []byte) (n int, err error) {
	if f.in.at == len(f.in.buf) {
		if len(p) >= leastRoom || f.mode == byLength && int64(len(p)) == f.left {
			return f.in.direct(p)
		}
		if n, _, err = f.in.fill(); n == 0 {
			return 0, err
		}
	}
	n = copy(p, f.in.unread())
	f.in.at += n
	return n, nil
}

// readChunks hands out data until p is full or another system call is needed,
// and in any case consumes the framing that has arrived behind it: unread
// bytes are always data then.
func (f *framed) readChunks(p []byte) (n int, err error) {
	for {
		if f.in.at == len(f.in.buf) && n > 0 {
			return n, nil
		}
		m := 0
		switch f.chunks.state {
		case dataState:
			if n == len(p) {
				return n, nil
			}
			m, err = f.data(p[n:])
			n += m
		case trailerState:
			if n > 0 && !f.trailersHere() {
				return n, nil
			}
			if err = f.trailers(); err == io.EOF && f.chunks.state == chunksEnd {
				f.ended = true
				return n, nil
			}
		default:
			err = f.between()
		}
		if err != nil {
			return n, err
		}
	}
}

func (f *framed) data(p []byte) (n int, err error) {
	n, err = f.some(p[:min(int64(len(p)), f.chunks.size)])
	if f.chunks.size -= int64(n); f.chunks.size == 0 {
		f.chunks.state = dataCR
	}
	if n > 0 {
		err = nil
	}
	return n, err
}

// trailersHere reports whether the usual end, an empty trailer section, has
// arrived, so that nothing waits for it.
func (f *framed) trailersHere() bool {
	b := f.in.unread()
	return len(b) >= 2 && b[0] == '\r'
}

// between reads the framing between two chunks.
func (f *framed) between() error {
	if f.in.at == len(f.in.buf) {
		if n, _, err := f.in.fill(); n == 0 {
			return err
		}
	}
	n, err := f.chunks.frame(f.in.unread())
	f.in.at += n
	return err
}

// buffered is how many bytes of the body can be read without a system call,
// as far as that is known.
func (f *framed) buffered() int {
	n := int64(len(f.in.buf) - f.in.at)
	switch {
	case f.ended:
		return 0
	case f.mode == byLength:
		n = min(n, f.left)
	case f.mode == byChunks && f.chunks.state == dataState:
		n = min(n, f.chunks.size)
	case f.mode == byChunks:
		return 0
	}
	return int(n)
}
