package h3

import (
	"encoding/binary"
	"io"
)

// Frame types (RFC 9114 section 7.2, RFC 9218 section 7.2).
const (
	frameData        = 0x0
	frameHeaders     = 0x1
	frameCancelPush  = 0x3
	frameSettings    = 0x4
	framePushPromise = 0x5
	frameGoAway      = 0x7
	frameMaxPushID   = 0xd
	framePriority    = 0xf0700
	framePriorityEnd = 0xf0701
)

// reserved is a type that means nothing (RFC 9114 section 7.2.8).
const reserved = 0x21

// misplaced reports a frame that no request stream may carry besides DATA and
// HEADERS: those of the control stream, and those that only HTTP/2 has.
func misplaced(kind uint64) bool {
	switch kind {
	case 0x2, frameCancelPush, frameSettings, framePushPromise, 0x6, frameGoAway, 0x8, 0x9, frameMaxPushID,
		framePriority, framePriorityEnd:
		return true
	}
	return false
}

// parseVarint reads a variable-length integer (RFC 9000 section 16); n is 0 if
// it is not complete.
func parseVarint(p []byte) (v uint64, n int) {
	if len(p) == 0 {
		return 0, 0
	}
	switch n = 1 << (p[0] >> 6); {
	case len(p) < n:
		return 0, 0
	case n == 1:
		return uint64(p[0]), 1
	case n == 2:
		return uint64(binary.BigEndian.Uint16(p) & 0x3fff), 2
	case n == 4:
		return uint64(binary.BigEndian.Uint32(p) & 0x3fffffff), 4
	}
	return binary.BigEndian.Uint64(p) & (1<<62 - 1), 8
}

// appendVarint is its opposite, for v below 2^62.
func appendVarint(b []byte, v uint64) []byte {
	switch {
	case v < 1<<6:
		return append(b, byte(v))
	case v < 1<<14:
		return binary.BigEndian.AppendUint16(b, uint16(v)|1<<14)
	case v < 1<<30:
		return binary.BigEndian.AppendUint32(b, uint32(v)|2<<30)
	}
	return binary.BigEndian.AppendUint64(b, v|3<<62)
}

// input reads ahead of a parser of frames. Its buffer is its user's.
type input struct {
	read func([]byte) (int, error) // at least one byte, or an error
	buf  []byte
	r, w int
	end  bool // there is nothing behind what is in buf
}

func (in *input) unread() []byte { return in.buf[in.r:in.w] }

// fill reads at least one byte behind those that are there; io.EOF at the end
// of the stream.
func (in *input) fill() error {
	if in.end {
		return io.EOF
	}
	if in.r > 0 {
		in.w = copy(in.buf, in.unread())
		in.r = 0
	}
	n, err := in.read(in.buf[in.w:])
	in.w += n
	if err == io.EOF {
		in.end = true
		if n > 0 {
			err = nil
		}
	}
	return err
}

// header reads the header of the next frame. io.EOF means that there is none.
func (in *input) header() (kind, length uint64, err error) {
	for {
		p := in.unread()
		kind, n := parseVarint(p)
		length, m := parseVarint(p[n:])
		if n > 0 && m > 0 {
			in.r += n + m
			return kind, length, nil
		}
		if err := in.fill(); err != nil {
			if err == io.EOF && len(p) > 0 {
				err = connError{codeFrame, errFrame}
			}
			return 0, 0, err
		}
	}
}

// varint reads one integer; io.EOF also in the middle of it.
func (in *input) varint() (uint64, error) {
	for {
		if v, n := parseVarint(in.unread()); n > 0 {
			in.r += n
			return v, nil
		}
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
}

// skip drops *n bytes of a frame and counts them down, so that it can be
// called again after an error.
func (in *input) skip(n *uint64) error {
	for {
		have := min(uint64(in.w-in.r), *n)
		in.r += int(have)
		if *n -= have; *n == 0 {
			return nil
		}
		if err := in.fill(); err != nil {
			return cut(err)
		}
	}
}

// payload reads the n bytes of a frame. They are valid until the next read. If
// they do not fit the buffer, larger is asked for another one as they arrive.
func (in *input) payload(n int, larger func(size int) error) ([]byte, error) {
	for in.w-in.r < n {
		if have := in.w - in.r; have == len(in.buf) {
			size := min(2*len(in.buf), n)
			if err := larger(size); err != nil {
				return nil, err
			}
			next := make([]byte, size)
			in.w = copy(next, in.unread())
			in.buf, in.r = next, 0
		}
		if err := in.fill(); err != nil {
			return nil, cut(err)
		}
	}
	p := in.buf[in.r : in.r+n]
	in.r += n
	return p, nil
}

// cut is the error of a read inside a frame (RFC 9114 section 7.1).
func cut(err error) error {
	if err == io.EOF {
		return connError{codeFrame, errFrame}
	}
	return err
}
