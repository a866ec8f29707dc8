package socket

import (
	"io"
	"sync"
)

// recordsBuffer is how much Records reads at once: two full records with their
// framing (RFC 8446 section 5.2).
const recordsBuffer = 2*(5+16384+256) + 1024

var recordsPool sync.Pool // of *[recordsBuffer]byte

// Records is a Socket as the transport of a TLS connection: a Read returns
// bytes of one record only. crypto/tls reads ahead and cannot be asked what it
// holds; over Records it holds nothing beyond the record that it has returned
// data of, and Empty tells of the rest. The buffer is held only while bytes
// are in it.
type Records struct {
	*Socket
	buf    *[recordsBuffer]byte
	at     int     // next byte of buf to hand out
	end    int     // behind the last
	left   int     // of the payload of the record that is being handed out
	header int     // bytes of the next header that were handed out
	length [2]byte // of the next record
	err    error   // what comes behind the bytes
}

// NewRecords is s, which nobody else may read any more.
func NewRecords(s *Socket) *Records { return &Records{Socket: s} }

// Read returns bytes of one record.
func (r *Records) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.at == r.end {
		if err := r.fill(r.Socket.Read); err != nil {
			return 0, err
		}
	}
	n := copy(p[:min(len(p), r.end-r.at)], r.buf[r.at:r.end])
	n = r.pass(r.buf[r.at : r.at+n])
	if r.at += n; r.at == r.end {
		r.free()
	}
	return n, nil
}

// Empty reports whether nothing was read that Read has not returned, and Read
// has returned whole records.
func (r *Records) Empty() bool { return r.at == r.end && r.left == 0 && r.header == 0 && r.err == nil }

// TryFill reads what is there, which Read returns later. It fails with ErrWait
// where Read would wait; other errors are left to Read.
func (r *Records) TryFill() error {
	if r.at < r.end || r.err != nil {
		return nil
	}
	err := r.fill(r.Socket.TryRead)
	if err != nil && err != ErrWait {
		r.err, err = err, nil
	}
	return err
}

func (r *Records) fill(read func([]byte) (int, error)) error {
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	if r.buf == nil {
		r.buf, _ = recordsPool.Get().(*[recordsBuffer]byte)
		if r.buf == nil {
			r.buf = new([recordsBuffer]byte)
		}
	}
	n, err := read(r.buf[:])
	if r.at, r.end = 0, n; n == 0 {
		r.free()
		if err == nil {
			err = io.ErrNoProgress
		}
	}
	return err
}

// pass follows the framing of p and returns how much of it belongs to one
// record.
func (r *Records) pass(p []byte) (n int) {
	const headerSize = 5
	for n < len(p) {
		if r.left > 0 {
			m := min(r.left, len(p)-n)
			n += m
			if r.left -= m; r.left == 0 {
				return n
			}
			continue
		}
		if r.header >= headerSize-2 {
			r.length[r.header-(headerSize-2)] = p[n]
		}
		n++
		if r.header++; r.header == headerSize {
			r.header = 0
			if r.left = int(r.length[0])<<8 | int(r.length[1]); r.left == 0 {
				return n
			}
		}
	}
	return n
}

func (r *Records) free() {
	recordsPool.Put(r.buf)
	r.buf, r.at, r.end = nil, 0, 0
}
