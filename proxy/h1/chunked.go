package h1

import (
	"io"
	"math"

	"usher/proxy/message"
)

// chunkState is where in a chunked body (RFC 9112 section 7.1) the decoder is.
type chunkState uint8

const (
	sizeState chunkState = iota
	extName              // after ";"
	extNameRest
	extNameSpace // after whitespace behind a name
	extValue     // after "="
	extValueRest
	extQuoted
	extEscape
	extValueEnd // after a closing quote
	extValueSpace
	sizeLF
	dataState
	dataCR
	dataLF
	trailerState
	chunksEnd
)

// Limits of chunk extensions, which are read and dropped: of one line, and of
// what may come without data to go with it.
const (
	maxChunkLine = 4 << 10
	maxOverhead  = 16 << 10
)

// chunks is the decoder's state between reads.
type chunks struct {
	state    chunkState
	digits   int   // of the size so far
	size     int64 // of the chunk, then what is left of it
	line     int   // length of the size line so far
	overhead int64 // bytes of extensions, less the data since
}

// frame consumes framing bytes at the front of b, up to data or the trailers.
func (c *chunks) frame(b []byte) (n int, err error) {
	for n < len(b) && c.state != dataState && c.state != trailerState {
		if err := c.octet(b[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func (c *chunks) octet(b byte) error {
	switch c.state {
	case sizeState:
		return c.sizeOctet(b)
	case sizeLF:
		return c.sizeDone(b)
	case dataCR:
		c.state = dataLF
		return must(b == '\r')
	case dataLF:
		c.state, c.digits, c.size, c.line = sizeState, 0, 0, 0
		return must(b == '\n')
	}
	c.overhead++
	if c.line++; c.line > maxChunkLine || c.overhead > maxOverhead {
		return errChunkExt
	}
	return c.extOctet(b)
}

func must(ok bool) error {
	if !ok {
		return errChunk
	}
	return nil
}

// sizeOctet reads 1 to 16 hexadecimal digits, nothing else.
func (c *chunks) sizeOctet(b byte) error {
	switch d := hexDigit(b); {
	case d < 16:
		c.digits++
		if c.digits > 16 || c.size > math.MaxInt64>>4 {
			return errChunk
		}
		c.size = c.size<<4 | int64(d)
	case c.digits == 0:
		return errChunk
	case b == '\r':
		c.state = sizeLF
	case b == ';':
		c.state = extName
	default:
		return errChunk
	}
	return nil
}

func hexDigit(c byte) byte {
	if isDigit(c) {
		return c - '0'
	}
	if d := fold(c) - 'a'; d < 6 {
		return d + 10
	}
	return 16
}

func (c *chunks) sizeDone(b byte) error {
	if c.state = dataState; c.size == 0 {
		c.state = trailerState
	}
	c.overhead = max(0, c.overhead-c.size)
	return must(b == '\n')
}

// extOctet follows *( ";" name [ "=" ( token / quoted-string ) ] ) with
// whitespace where RFC 9112 section 7.1.1 has it.
func (c *chunks) extOctet(b byte) error {
	space := b == ' ' || b == '\t'
	switch c.state {
	case extQuoted, extEscape:
		return c.quotedOctet(b)
	case extName, extValue:
		return c.extBegin(b, space)
	}
	named := c.state == extNameRest || c.state == extNameSpace
	switch {
	case isToken(b) && (c.state == extNameRest || c.state == extValueRest):
	case space && named:
		c.state = extNameSpace
	case space:
		c.state = extValueSpace
	case b == '=' && named:
		c.state = extValue
	case b == ';':
		c.state = extName
	case b == '\r' && c.state != extNameSpace && c.state != extValueSpace:
		c.state = sizeLF
	default:
		return errChunk
	}
	return nil
}

// extBegin reads the first byte of a name or a value.
func (c *chunks) extBegin(b byte, space bool) error {
	switch {
	case space:
	case b == '"' && c.state == extValue:
		c.state = extQuoted
	case isToken(b) && c.state == extName:
		c.state = extNameRest
	case isToken(b):
		c.state = extValueRest
	default:
		return errChunk
	}
	return nil
}

func (c *chunks) quotedOctet(b byte) error {
	switch {
	case b < 0x20 && b != '\t' || b == 0x7f:
		return errChunk
	case c.state == extEscape:
		c.state = extQuoted
	case b == '\\':
		c.state = extEscape
	case b == '"':
		c.state = extValueEnd
	}
	return nil
}

// trailers reads the trailer section in place: fill is called for more bytes.
func (f *framed) trailers() error {
	var l lines
	var t message.Field
	f.trailer.Reset()
	for {
		got, err := l.next(f.in.unread(), &t)
		switch {
		case err != nil:
			return err
		case got == field:
			if message.AllowedInTrailer(&t) && !f.head.named(&t) {
				f.trailer.AddField(t.ID, t.Name, t.Value)
			}
		case got == end:
			f.in.at += l.at
			f.in.pinned()
			f.chunks.state = chunksEnd
			return io.EOF
		default:
			moved, err := f.in.fillLine(maxSection)
			if err != nil {
				return err
			}
			if moved {
				l = lines{}
				f.trailer.Reset()
			}
		}
	}
}
