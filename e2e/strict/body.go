package strict

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// maxBody bounds what a test keeps in memory of one message.
const maxBody = 64 << 20

// body reads the content that f announces into m.
func (m *Message) body(r *bufio.Reader, f framing) error {
	if f.chunked {
		return m.chunked(r)
	}
	if f.length > maxBody { // it is read and not kept
		_, err := io.CopyN(io.Discard, r, f.length)
		return noEOF(err)
	}
	m.Body = make([]byte, max(f.length, 0))
	n, err := io.ReadFull(r, m.Body)
	m.Body = m.Body[:n]
	return noEOF(err)
}

// chunked reads a chunked body (RFC 9112 section 7.1) without extensions.
func (m *Message) chunked(r *bufio.Reader) error {
	for {
		n, err := ChunkSize(r)
		if err != nil {
			return err
		}
		if n == 0 {
			m.Trailer, err = fields(r)
			return err
		}
		if int64(len(m.Body))+n > maxBody {
			return fmt.Errorf("body over %d bytes", maxBody)
		}
		if err := m.chunk(r, n); err != nil {
			return err
		}
	}
}

func (m *Message) chunk(r *bufio.Reader, n int64) error {
	at := len(m.Body)
	m.Body = append(m.Body, make([]byte, n)...)
	got, err := io.ReadFull(r, m.Body[at:])
	m.Body = m.Body[:at+got]
	if err != nil {
		return noEOF(err)
	}
	m.Chunks++
	return ChunkEnd(r)
}

// ChunkSize reads the line that begins a chunk; 0 is the last one.
func ChunkSize(r *bufio.Reader) (int64, error) {
	l, err := line(r)
	if err != nil {
		return 0, noEOF(err)
	}
	if l == "" || len(l) > 16 || strings.Trim(l, "0123456789abcdefABCDEF") != "" {
		return 0, fmt.Errorf("chunk size %q", l)
	}
	return strconv.ParseInt(l, 16, 64)
}

// ChunkEnd reads the CRLF after a chunk's data.
func ChunkEnd(r *bufio.Reader) error {
	l, err := line(r)
	if err == nil && l != "" {
		err = fmt.Errorf("%q after a chunk", l)
	}
	return noEOF(err)
}
