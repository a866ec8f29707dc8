package tunnel

import (
	"golang.org/x/sys/unix"

	"usher/proxy/socket"
)

// spliceAfter is how long a flow is copied: a pipe costs more than it saves
// before.
const spliceAfter = 256 << 10

// read takes bytes from e and leaves those in held or in the pipe that its
// peer does not take at once.
func (e *end) read() (int, error) {
	if e.total.Load() >= spliceAfter && e.borrowPipe() {
		n, err := e.pipe.Fill(e.fd, socket.PipeSize)
		if err != unix.EINVAL {
			e.flush()
			return n, err
		}
		e.copyOnly = true
	}
	return e.copy()
}

// copy reads through the buffer that all wires of the lane share.
func (e *end) copy() (int, error) {
	scratch := e.wire.lane.scratch[:]
	n, err := readOnce(e.fd, scratch)
	if err != nil {
		return 0, err
	}
	switch {
	case n == len(scratch):
	case e.ending && e.wire.bare:
		e.ended() // of TCP: the end was behind these bytes already
	case !e.thorough:
		e.readable = false // and the next byte makes an event
	}
	e.held = scratch[:n]
	if !e.flush() && len(e.held) > 0 {
		e.hold()
	}
	return n, nil
}

// hold moves what is held out of the shared buffer.
func (e *end) hold() {
	b := e.wire.lane.takeBuffer(len(e.held))
	e.keep, e.held = b, (*b)[:copy(*b, e.held)]
}

// drop forgets what is pending.
func (e *end) drop() {
	e.held = nil
	if e.keep != nil {
		e.wire.lane.freeBuffer(e.keep)
		e.keep = nil
	}
	if e.over {
		e.returnPipe()
	}
}

func (e *end) borrowPipe() bool {
	if e.pipe == nil && !e.copyOnly {
		e.pipe = e.wire.lane.loop.BorrowPipe()
	}
	return e.pipe != nil
}

// returnPipe gives the pipe back when it is empty, or when nobody wants what
// is in it any more.
func (e *end) returnPipe() {
	if e.pipe != nil && (e.pipe.Held() == 0 || e.over) {
		e.wire.lane.loop.ReturnPipe(e.pipe)
		e.pipe = nil
	}
}
