package h2

import "io"

// input reads ahead of the Framer. It holds a buffer only while there are
// streams or bytes: the first bytes after a pause come through small.
type input struct {
	src   io.Reader
	buf   []byte // nil while idle
	r, w  int
	small [32]byte
}

const inputSize = mediumBuffer

// Read implements io.Reader for the Framer.
func (in *input) Read(p []byte) (int, error) {
	if in.r == in.w {
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.buf[in.r:in.w])
	in.r += n
	return n, nil
}

// fill reads at least one byte behind those that are there.
func (in *input) fill() error {
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
	if in.buf == nil {
		n, err := readSome(in.src, in.small[:])
		if err != nil {
			return err
		}
		in.buf = take(inputSize)[:inputSize]
		in.w = copy(in.buf, in.small[:n])
		return nil
	}
	n, err := readSome(in.src, in.buf[in.w:])
	in.w += n
	return err
}

// has reports whether n bytes can be read without waiting.
func (in *input) has(n int) bool { return in.w-in.r >= n }

// payload returns the next n bytes, at most the largest frame, as a view that
// is valid until the next read.
func (in *input) payload(n int) ([]byte, error) {
	for in.w-in.r < n {
		if in.r+n > len(in.buf) {
			in.w = copy(in.buf, in.buf[in.r:in.w])
			in.r = 0
		}
		if err := in.fill(); err != nil {
			return nil, cut(err)
		}
	}
	p := in.buf[in.r : in.r+n]
	in.r += n
	return p, nil
}

// cut is the error of a read inside a frame.
func cut(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// rest gives the buffer back if it is empty.
func (in *input) rest() {
	if in.r == in.w && in.buf != nil {
		give(in.buf)
		in.buf, in.r, in.w = nil, 0, 0
	}
}

// release gives the buffer back whatever it holds.
func (in *input) release() {
	in.r = in.w
	in.rest()
}

// readSome reads at least one byte or fails.
func readSome(r io.Reader, p []byte) (int, error) {
	for range 100 {
		n, err := r.Read(p)
		if n > 0 {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}
