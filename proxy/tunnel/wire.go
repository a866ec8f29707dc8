package tunnel

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

const (
	// interest is what an end is registered for: edges, so that nothing has
	// to be changed while bytes come and go.
	interest = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET

	// budget is how much a flow may move before others have their turn: one
	// piece. What is under way of many flows stays in the processor's cache.
	budget = 64 << 10

	// patience is how many Ticks a reset waits while none of the bytes before
	// it arrives.
	patience = 10
)

// wire is a tunnel between two bare descriptors. Its loop's goroutine moves
// the bytes; Start and Abort come from others.
type wire struct {
	lane *lane
	done Ender
	idle time.Duration
	bare bool // see Bare

	mu      sync.Mutex
	ends    [2]end // client, VM; mu
	verdict verdict
	timer   socket.Timer // mu; idle limit, later the wait before a reset
	last    int64        // mu; tick of the last byte
	waits   int          // mu; Ticks that a reset has waited
	left    int          // mu; bytes that it waits for
	started bool         // mu; both ends are registered
	looped  bool         // mu; it is the loop's goroutine that has mu
	guarded bool         // mu; nothing is to be done about a new VM connection
	ended   bool         // mu
}

func newWire(l *lane, idle time.Duration, done Ender) *wire {
	w := &wire{lane: l, done: done, idle: idle, guarded: true}
	for i := range w.ends {
		w.ends[i].wire, w.ends[i].peer = w, &w.ends[1-i]
	}
	return w
}

// take detaches the descriptor of one end from its socket.
func (w *wire) take(i int, d message.Duplex, s *socket.Socket, ahead []byte) {
	e := &w.ends[i]
	if _, nothingMore := d.(plain); !nothingMore {
		e.duplex = d
	}
	fd, behind, err := s.Detach()
	e.fd, e.held = fd, append(ahead[:len(ahead):len(ahead)], behind...)
	if err != nil {
		e.broken = true
		w.verdict.failed(sideOf(i), reasonOf(err))
	}
}

// start passes on what was read ahead and gives the wire to the loop.
func (w *wire) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ends[0].broken || w.ends[1].broken {
		w.end()
		return
	}
	w.begin()
}

// begin gives the wire to the loop. The caller holds mu.
func (w *wire) begin() {
	w.arm(w.idle + socket.Tick)
	w.stamp()
	for i := range w.ends {
		e := &w.ends[i]
		e.flush()
		e.held = bytes.Clone(e.held) // the rest was lent for the time of Start
	}
	switch err := errors.Join(w.ends[0].register(), w.ends[1].register()); {
	case errors.Is(err, os.ErrClosed): // the loop has ended
		w.abort("drain")
		return
	case err != nil:
		w.abort(reasonOf(err))
		return
	}
	w.started = true
}

// register begins the events of an end: the first ones are those that were
// there before.
func (e *end) register() (err error) {
	events := uint32(interest)
	if e.blocked {
		events |= unix.EPOLLOUT
		e.outward = true
	}
	e.slot, err = e.wire.lane.loop.Add(e.fd, events, e)
	return err
}

// arm sets the timer for the idle limit, or for what comes before it.
func (w *wire) arm(left time.Duration) {
	switch {
	case !w.guarded && (w.idle == 0 || left > guardAfter):
		w.lane.loop.After(&w.timer, guardAfter, w)
	case w.idle > 0:
		w.lane.loop.After(&w.timer, left, w)
	}
}

func (w *wire) stamp() { w.last = w.lane.loop.Ticks() }

// run moves what can be moved after an event of e. The caller holds mu.
func (w *wire) run(e *end) {
	left := min(w.ends[0].pump(budget), w.ends[1].pump(budget))
	if w.ends[0].broken { // found while its peer was pumped: what it sent before goes on
		left = min(left, w.ends[0].pump(budget))
	}
	switch {
	case w.ends[0].over && w.ends[1].over:
		w.conclude()
	case left <= 0:
		w.lane.loop.Again(e.slot)
	}
}

// conclude ends the wire when both flows have. A reset is passed on when the
// bytes before it have arrived, or do not get on: it would overtake them. The
// caller holds mu.
func (w *wire) conclude() {
	left := 0
	for i := range w.ends {
		if e := &w.ends[i]; e.peer.broken && !e.broken {
			left = unsent(e.fd)
		}
	}
	if left < w.left {
		w.waits = 0
	}
	if w.left = left; left == 0 || w.waits >= patience {
		w.end()
		return
	}
	w.lane.loop.After(&w.timer, 0, w)
}

// unsent is how many bytes were written that the peer has not acknowledged.
func unsent(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// Expire looks whether the wire was idle for too long, or goes on with a reset
// that waits.
func (w *wire) Expire() {
	w.mu.Lock()
	if w.ended {
		w.mu.Unlock()
		return
	}
	w.looped = true
	w.expire()
	w.release()
}

func (w *wire) expire() {
	if w.ends[0].over && w.ends[1].over {
		w.waits++
		w.conclude()
		return
	}
	if !w.guarded {
		w.guarded = true
		socket.Guard(w.ends[1].fd)
	}
	quiet := time.Duration(w.lane.loop.Ticks()-w.last) * socket.Tick
	if w.idle > 0 && quiet >= w.idle+socket.Tick {
		w.abort("idle")
		return
	}
	w.arm(w.idle + socket.Tick - quiet)
}

// release lets go of mu on the loop's goroutine.
func (w *wire) release() {
	w.looped = false
	over := w.ended && w.bare
	w.mu.Unlock()
	if over {
		w.tell()
	}
}

// Abort resets both ends.
func (w *wire) Abort(reason string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ended {
		w.abort(reason)
	}
}

func (w *wire) abort(reason string) {
	if !w.ends[0].over || !w.ends[1].over {
		w.verdict = verdict{message.UsherSide, reason}
	}
	w.reset()
}

// reset ends the wire so that both sides see a broken transfer.
func (w *wire) reset() {
	w.ends[0].broken, w.ends[1].broken = true, true
	w.end()
}

// Bytes is how much was delivered so far.
func (w *wire) Bytes() (up, down int64) {
	return w.ends[0].total.Load(), w.ends[1].total.Load()
}

// end frees everything. The caller holds mu.
func (w *wire) end() {
	w.ended = true
	w.lane.loop.Cancel(&w.timer)
	w.ends[0].close()
	w.ends[1].close()
	if !w.looped || !w.bare {
		go w.tell()
	}
}

func (e *end) close() {
	e.over = true
	e.drop()
	e.wire.lane.loop.Forget(e.slot)
	if e.fd < 0 {
		return
	}
	if e.peer.broken {
		unix.SetsockoptLinger(e.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	closeNow(e.fd)
	e.fd = -1
}

func (w *wire) tell() {
	for i := range w.ends {
		if d := w.ends[i].duplex; d != nil {
			d.Close()
		}
	}
	up, down := w.Bytes()
	w.lane.open.Add(-1)
	w.done.Ended(Result{Up: up, Down: down, Side: w.verdict.side, Reason: w.verdict.reason})
}
