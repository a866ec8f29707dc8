package h1

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/iotest"

	"usher/proxy/message"
)

// decode reads a chunked body that arrives from r in reads of size at most.
func decode(r io.Reader, size int) (data string, trailer string, rest int, err error) {
	in := input{r: r, size: smallBuffer}
	defer in.release()
	var h message.Header
	var f framed
	f.start(&in, byChunks, message.Unknown, &facts{}, &h)
	buf := make([]byte, size)
	var out strings.Builder
	for err == nil {
		var n int
		n, err = f.read(buf)
		out.Write(buf[:n])
	}
	for _, f := range h.All() {
		trailer += string(f.Name) + ": " + string(f.Value) + "\n"
	}
	return out.String(), trailer, len(in.unread()), err
}

func TestChunkedVectors(t *testing.T) {
	for _, v := range vectors(t, "chunked.txt") {
		for _, size := range []int{1, 3, 100, 5000} {
			t.Run(fmt.Sprintf("%s/%d", v.name, size), func(t *testing.T) {
				chunkedVector(t, v, strings.NewReader(v.in), size)
				chunkedVector(t, v, iotest.OneByteReader(strings.NewReader(v.in)), size)
			})
		}
	}
}

func chunkedVector(t *testing.T, v vector, r io.Reader, size int) {
	data, trailer, _, err := decode(r, size)
	var got string
	switch {
	case err == io.EOF:
		got = "ok"
	case err == errCutBody:
		got = "cut"
	default:
		got = "bad"
	}
	if got != v.verdict[0] {
		t.Fatalf("%s (%v), want %s", got, err, v.verdict[0])
	}
	if got == "ok" && (data != v.out || trailer != v.trailer) {
		t.Errorf("decoded %s and %s, want %s and %s", short(data), short(trailer), short(v.out), short(v.trailer))
	}
}

// FuzzChunked checks that how a body is cut into reads does not matter, that
// Go's decoder finds the same bytes in what is accepted, and that what is
// written is read back.
func FuzzChunked(f *testing.F) {
	for _, v := range vectors(f, "chunked.txt") {
		f.Add([]byte(v.in))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		data, trailer, rest, err := decode(bytes.NewReader(raw), 4096)
		data1, trailer1, _, err1 := decode(iotest.OneByteReader(bytes.NewReader(raw)), 7)
		if (err == io.EOF) != (err1 == io.EOF) || err == io.EOF && (data != data1 || trailer != trailer1) {
			t.Fatalf("%q %q %v, byte by byte %q %q %v", data, trailer, err, data1, trailer1, err1)
		}
		if err != io.EOF {
			return
		}
		reference, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(raw)))
		if err != nil && err.Error() == "header line too long" {
			return // its buffer is smaller than our limit
		}
		if err != nil || string(reference) != data {
			t.Fatalf("decoded %q, Go %q (%v)", data, reference, err)
		}
		out := frameChunk(make([]byte, len(data)+64)[:0], 0)
		if len(data) > 0 {
			buf := make([]byte, chunkHead+len(data)+2)
			copy(buf[chunkHead:], data)
			out = frameChunk(buf, len(data))
		}
		out = append(appendLastChunk(out, nil), raw[len(raw)-rest:]...)
		again, _, rest1, err := decode(bytes.NewReader(out), 4096)
		if err != io.EOF || again != data || rest1 > rest {
			t.Fatalf("written and read back %q (%v), %d bytes left, want %q, %d", again, err, rest1, data, rest)
		}
	})
}
