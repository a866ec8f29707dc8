package h1

import (
	"errors"
	"io"
	"os"

	"usher/proxy/message"
)

// ahead is a body that can say what of it has arrived.
type ahead interface {
	ReadAhead([]byte) (int, error)
	Unread(n int)
}

// send writes the head and what is at hand of the body, and starts the
// goroutine if there is more. A body that is malformed from the start is seen
// before anything is written.
func (v *VM) send() error {
	r, u := &v.ex.Request, &v.up
	v.wire.SetWriteTimeout(v.silent)
	out := appendRequest(take(mediumBuffer), r)
	defer func() { give(out) }()
	u.left = r.Length
	if r.Body == nil {
		u.left = 0
	}
	out, rest, undo, err := u.atHand(out)
	if err != nil {
		return bodyFault(err)
	}
	n, err := v.write(out, rest)
	if v.sent = n > 0; err != nil {
		if n == 0 {
			undo.unread()
		}
		return v.unsent(err)
	}
	if u.left == 0 {
		u.complete = true
		return nil
	}
	u.begin()
	return nil
}

// write writes both; only a bare connection has a rest.
func (v *VM) write(out, rest []byte) (int64, error) {
	if len(rest) > 0 {
		return v.bare.WriteBuffers(out, rest)
	}
	n, err := v.rw.Write(out)
	return int64(n), err
}

// undo gives back what was read ahead of a body.
type undo struct {
	body ahead
	n    int
}

func (u undo) unread() {
	if u.body != nil {
		u.body.Unread(u.n)
	}
}

// atHand appends what has arrived of the body, framed, to the head in out. A
// body that is in memory as a whole is not copied: it is the rest.
func (u *upload) atHand(out []byte) (_, rest []byte, _ undo, err error) {
	r := &u.v.ex.Request
	room := out[len(out):cap(out)]
	if r.Body == nil || len(room) < leastRoom {
		return out, nil, undo{}, nil
	}
	switch body := r.Body.(type) {
	case ahead:
		if b, ok := body.(*requestBody); ok && u.v.bare != nil {
			if rest = b.whole(len(room)); rest != nil {
				u.left = 0
				return out, rest, undo{body, len(rest)}, nil
			}
		}
		piece, n, err := u.readAhead(room, body)
		// Within room, unless trailers made it longer.
		return append(out, piece...), nil, undo{body, n}, err
	case buffered:
		n, err := u.readBuffered(room, body)
		return out[:len(out)+n], nil, undo{}, err
	}
	return out, nil, undo{}, nil
}

// readAhead reads the taken bytes that are there of a body into room, and
// frames them.
func (u *upload) readAhead(room []byte, body ahead) (piece []byte, taken int, err error) {
	r := &u.v.ex.Request
	if r.Length != message.Unknown {
		taken, err = body.ReadAhead(room[:min(int64(len(room)), u.left)])
		if u.left -= int64(taken); err == io.EOF && u.left == 0 {
			err = nil
		}
		return room[:taken], taken, err
	}
	taken, err = body.ReadAhead(room[chunkHead : len(room)-chunkTail])
	piece = frameChunk(room, taken)
	if err == io.EOF {
		piece, u.left, err = appendLastChunk(piece, &r.Trailer), 0, nil
	}
	return piece, taken, err
}

// buffered is a wrapped body that knows how much of it has arrived.
type buffered interface {
	message.Body
	Buffered() int
}

// readBuffered reads what is there of a body of known length.
func (u *upload) readBuffered(room []byte, body buffered) (n int, err error) {
	for u.left > 0 && err == nil {
		ready := min(body.Buffered(), len(room)-n, int(min(u.left, largeBuffer)))
		if ready <= 0 {
			break
		}
		ready, err = body.Read(room[n : n+ready])
		n, u.left = n+ready, u.left-int64(ready)
	}
	if err == io.EOF && u.left == 0 {
		err = nil
	}
	return n, err
}

// unsent is the error of a request that could not be written. A head that a VM
// does not read within the silence allowed is its silence.
func (v *VM) unsent(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return broken(504, errSilent)
	}
	return v.failure(err)
}
