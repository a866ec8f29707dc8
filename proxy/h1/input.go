package h1

import (
	"bytes"
	"io"

	"usher/proxy/socket"
)

// input is a read buffer. Bytes before pin belong to a head or trailer whose
// fields are in use and stay where they are until done.
type input struct {
	r    io.Reader
	buf  []byte // its length is what has been read into it
	held []byte // an earlier buffer, full of such bytes
	pin  int
	at   int            // next byte to hand out
	size int            // of the first buffer
	hold bool           // nothing may wait: where reading further would, it fails with errWait
	sock *socket.Socket // tried while hold is set; nil if nothing can be read without waiting
}

// errWait is what a reader gets that would have to wait and must not.
const errWait fault = "no more bytes have arrived"

// unread is what has arrived and was not handed out.
func (in *input) unread() []byte { return in.buf[in.at:] }

// fill reads once, at least one byte. It moves no byte before pin; unread
// bytes move if there is no room for more behind them, and moved says so.
func (in *input) fill() (n int, moved bool, err error) {
	if in.hold && in.sock == nil {
		return 0, false, errWait
	}
	moved = in.makeRoom()
	end := len(in.buf)
	n, err = in.direct(in.buf[end:cap(in.buf)])
	in.buf = in.buf[:end+n]
	return n, moved, err
}

// direct reads once without the buffer, which is empty.
func (in *input) direct(p []byte) (int, error) {
	if !in.hold {
		return in.r.Read(p)
	}
	if in.sock != nil {
		if n, _ := in.sock.TryRead(p); n > 0 {
			return n, nil
		}
	}
	return 0, errWait // whatever it was, a Read meets it again
}

// fillLine reads until a line may have ended or moved bytes have to be looked
// at again: a slow peer must not make us scan a long line for each of its
// bytes. Over limit bytes it leaves that to the parser.
func (in *input) fillLine(limit int) (moved bool, err error) {
	for {
		n, moved, err := in.fill()
		if n == 0 {
			return false, err
		}
		fresh := in.buf[len(in.buf)-n:]
		if moved || bytes.IndexByte(fresh, '\n') >= 0 || len(in.unread()) > limit {
			return moved, nil
		}
	}
}

// leastRoom is how little room is worth a system call.
const leastRoom = 1 << 10

func (in *input) makeRoom() (moved bool) {
	if in.at == len(in.buf) {
		in.at, in.buf = in.pin, in.buf[:in.pin]
	}
	switch waiting := len(in.buf) - in.at; {
	case in.buf == nil:
		in.buf = take(in.size)
	case len(in.buf) < cap(in.buf) && (cap(in.buf)-in.pin >= leastRoom || waiting > 0):
		return false
	case in.pin == 0 && in.at > cap(in.buf)/2:
		in.buf = in.buf[:copy(in.buf[:cap(in.buf)], in.unread())]
		in.at = 0
	default:
		in.grow(waiting)
	}
	return true
}

// grow moves the unread bytes to a larger buffer.
func (in *input) grow(waiting int) {
	old := in.buf
	in.buf = append(take(max(in.size, 2*waiting+leastRoom)), in.unread()...)
	in.at = 0
	if in.pin > 0 && in.held == nil {
		in.held = old
	} else {
		give(old)
	}
	in.pin = 0
}

// pinned keeps what was handed out so far until done.
func (in *input) pinned() { in.pin = in.at }

// done forgets what was handed out. Unread bytes stay, for the next message.
func (in *input) done() {
	if in.held != nil {
		give(in.held)
		in.held = nil
	}
	in.pin = 0
	if in.at == len(in.buf) {
		in.release()
	}
}

// release gives the buffers back, with whatever is in them.
func (in *input) release() {
	give(in.held)
	give(in.buf)
	in.held, in.buf, in.pin, in.at = nil, nil, 0, 0
}
