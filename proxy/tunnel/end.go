package tunnel

import (
	"io"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// end is one of the two sockets of a wire, and the flow that is read from it
// and written to its peer. All but total is guarded by the mutex of the wire.
type end struct {
	wire *wire
	peer *end
	fd   int
	slot socket.Slot

	readable bool // there may be something to read
	blocked  bool // the kernel takes no bytes for it until it says so
	outward  bool // registered for the news that it does
	ending   bool // it sends no more, though not all may be read yet
	thorough bool // a short read does not say that nothing is left
	eof      bool // it has sent all; read, though maybe not yet passed on
	lost     bool // reading it has failed
	finSent  bool // it was told that its peer has sent all
	broken   bool // reading or writing it has failed: in the end its peer is reset
	over     bool // its flow has ended: passed on with the FIN, or undeliverable
	copyOnly bool // it cannot be spliced
	slow     bool // the kernel may hold a second write back: many get one only

	held  []byte // read and not yet written to the peer
	keep  *[]byte
	pipe  *socket.Pipe // what it holds was not yet written either; nil for none
	total atomic.Int64

	duplex message.Duplex // to close at last; nil if there is nothing but the socket
}

// Ready moves what can be moved.
func (e *end) Ready(events uint32) {
	w := e.wire
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return
	}
	w.looped = true
	e.ready(events)
	w.release()
}

func (e *end) ready(events uint32) {
	if events&(unix.EPOLLIN|hangUp) != 0 {
		e.readable = true
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.blocked = false
	}
	// Beyond an end or an urgent byte a read stops short, and no event comes
	// for what is behind it.
	if events&(hangUp|unix.EPOLLPRI) != 0 {
		e.thorough = true
	}
	e.ending = e.ending || events&(hangUp|unix.EPOLLPRI) == unix.EPOLLRDHUP
	// Nothing reads e any more, so no read will tell.
	if (e.eof || e.over) && (events&unix.EPOLLERR != 0 || events&unix.EPOLLHUP != 0 && !e.finSent) {
		e.fail(pending(e.fd))
	}
	e.wire.run(e)
}

// pending is the error that a socket was reset with.
func pending(fd int) error {
	if errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && errno != 0 {
		return unix.Errno(errno)
	}
	return unix.ECONNRESET
}

// Stopped ends the tunnel with its loop.
func (e *end) Stopped() { e.wire.Abort("drain") }

// pump moves bytes from e to its peer until there are no more, the peer takes
// no more, or the budget is used up. It returns what is left of that.
func (e *end) pump(budget int) int {
	for !e.over && budget > 0 {
		if e.pending() && !e.flush() {
			break
		}
		if e.over || e.atEnd() || !e.readable || e.peer.blocked {
			break
		}
		budget -= e.fill()
	}
	e.returnPipe()
	return budget
}

// pending reports bytes that were read and not yet written.
func (e *end) pending() bool { return len(e.held) > 0 || e.pipe != nil && e.pipe.Held() > 0 }

// atEnd passes the end of e on, once all its bytes are. It reports whether
// there is nothing more to read.
func (e *end) atEnd() bool {
	switch {
	case e.eof:
		// The end of both flows closes both, which says as much.
		if last := e.peer.over && !e.broken && !e.peer.broken; !last {
			finish(e.peer.fd)
		}
		e.peer.finSent = true
		e.over = true
	case e.lost:
		e.over = true
	}
	return e.over
}

// flush writes what is pending and reports whether nothing is left.
func (e *end) flush() bool {
	for e.pending() {
		if e.peer.blocked {
			return false
		}
		n, err := e.flushOnce()
		if n > 0 {
			e.total.Add(int64(n))
			e.wire.stamp()
		}
		switch err {
		case nil, unix.EINTR:
		case unix.EAGAIN:
			e.peer.block()
			return false
		default:
			e.undeliverable(err)
			return false
		}
	}
	return true
}

func (e *end) flushOnce() (int, error) {
	if e.peer.slow {
		e.peer.slow = false
		socket.NoDelay(e.peer.fd)
	}
	if e.pipe != nil && e.pipe.Held() > 0 {
		return e.pipe.Drain(e.peer.fd)
	}
	// What is left to read is the end, as a rule, and that is read at once.
	n, err := sendOnce(e.peer.fd, e.held, e.eof || e.ending && e.readable)
	if err != nil {
		return 0, err
	}
	if e.held = e.held[n:]; len(e.held) == 0 {
		e.drop()
	}
	return n, nil
}

// block notes that the kernel takes no more for e, and asks for the news that
// it does: most tunnels never need it.
func (e *end) block() {
	e.blocked = true
	if !e.outward && e.wire.started {
		e.outward = true
		if err := e.wire.lane.loop.Modify(e.fd, e.slot, interest|unix.EPOLLOUT); err != nil {
			e.fail(err)
		}
	}
}

// undeliverable ends the flow of e, whose peer failed as it was written to.
// What that peer may have sent before is still read.
func (e *end) undeliverable(err error) {
	e.peer.fail(err)
	e.peer.readable = true
}

// fail notes that e is reset or has failed: nothing can be delivered to it.
func (e *end) fail(err error) {
	if !e.broken {
		e.broken = true
		e.wire.verdict.failed(e.side(), reasonOf(err))
	}
	e.blocked = false
	e.peer.over = true
	e.peer.drop()
}

// fill reads once, when nothing is pending. It returns what that costs of the
// budget.
func (e *end) fill() int {
	n, err := e.read()
	switch {
	case n > 0:
		e.wire.stamp()
		return n
	case err == unix.EAGAIN:
		e.readable = false
	case err == unix.EINTR:
	case err == io.EOF:
		e.ended()
	default:
		e.lost = true
		e.fail(err)
	}
	return 0
}

// ended notes that all was read of e.
func (e *end) ended() {
	e.eof, e.readable = true, false
	e.wire.verdict.closed(e.side())
}

func (e *end) side() message.Side {
	if e == &e.wire.ends[0] {
		return sideOf(0)
	}
	return sideOf(1)
}
