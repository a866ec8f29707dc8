package socket

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Handler is told of the events of one descriptor in a Loop.
type Handler interface {
	// Ready is called on the Loop's goroutine with epoll event bits, or with
	// none after Again. It must not block. It may be called with events that
	// were on their way while the registration changed.
	Ready(events uint32)
	// Stopped is called instead, once, if the Loop ends first.
	Stopped()
}

// Slot names a registration in a Loop: its index plus one, and the round in
// which the index was given out. The zero Slot is none.
type Slot struct{ at, round uint32 }

func (s Slot) free() bool { return s.at == 0 }

// entry is what a slot stands for.
type entry struct {
	handler Handler // nil: free
	round   uint32
	remind  int32 // tick, mutex of the chunk; 0 is none. May be that of an earlier handler
}

// chunkSize is how many entries are made at a time.
const chunkSize = 256

// chunk is some entries of a Loop, with one timer for those that want to be
// reminded of something.
type chunk struct {
	loop    *Loop
	entries [chunkSize]entry

	mu    sync.Mutex // taken before that of the Loop
	timer Timer
	set   int32 // mu; tick of the timer, 0 is none
}

// Loop tells handlers of the events of many descriptors on one goroutine. Its
// epoll descriptor is itself waited on through the runtime's poller: a thread
// blocked in epoll_wait would make the runtime hand its processor around.
type Loop struct {
	epoll int
	file  *os.File // owns epoll
	conn  syscall.RawConn
	try   func(uintptr) bool // turn, bound once
	crew  crew
	pipes pipes
	vigil vigil

	private func() // ends the loop of a Socket that had none; nil for others

	mu     sync.Mutex
	chunks []*chunk // mu
	unused []uint32 // mu
	again  []Slot   // mu
	levels bool     // mu; somebody wants neither edges nor one event
	wheel  wheel    // mu
	ending bool     // mu; Run is to return
	ended  bool     // mu

	clock   atomic.Int64         // wheel.now
	ticking atomic.Bool          // clock goes on by itself
	crowd   atomic.Bool          // the last events came more than one at a time
	events  [128]unix.EpollEvent // Run's
	told    [128]Handler         // Run's; of events
	expired []Expirer            // Run's
}

// NewLoop makes a Loop that does nothing before Run.
func NewLoop() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, failed("epoll_create1", err)
	}
	// Only a descriptor marked non-blocking is given to the runtime's poller.
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return nil, failed("fcntl", err)
	}
	l := &Loop{epoll: fd, file: os.NewFile(uintptr(fd), "epoll")}
	l.wheel.start = time.Now()
	l.crew.loop, l.pipes.loop = l, l
	l.try = func(uintptr) bool { return l.turn() }
	l.conn, err = l.file.SyscallConn()
	return l, err
}

// Run serves the loop until ctx ends, then tells all handlers that it has
// stopped, and frees it. It returns nil then, or the error that ended it
// before.
func (l *Loop) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, l.interrupt)
	defer stop()
	defer l.end()
	again := make([]Slot, 0, 16)
	for ctx.Err() == nil {
		if err := l.wait(len(again) > 0); err != nil {
			return err
		}
		for _, s := range again {
			l.dispatch(s, 0)
		}
		l.advance()
		again = l.takeAgain(again[:0])
	}
	return nil
}

// wait tells handlers until somebody has called Again, or a tick or the end has
// come. With busy set it only looks.
func (l *Loop) wait(busy bool) error {
	if busy {
		l.tell(pollOnce(l.epoll, l.events[:]))
		return nil
	}
	err := l.conn.Read(l.try)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	return err
}

// turn is called by the runtime's poller before each wait; true ends the
// waiting.
func (l *Loop) turn() bool {
	vigil, awaited := l.vigil.wanted(), l.vigil.awaited.Load()
	for {
		n := pollOnce(l.epoll, l.events[:])
		l.tell(n)
		busy, all := l.left(n)
		if busy {
			return true
		}
		if all && !(vigil && n > 0 && l.vigil.keep(l.epoll, awaited)) {
			l.vigil.slept = now()
			return false
		}
		vigil = false // one for each sleep: a loop that has enough to do would never sleep again
	}
}

// tell calls the handlers of the first n events.
func (l *Loop) tell(n int) {
	if n == 0 {
		return
	}
	if crowd := n > 1; crowd != l.crowd.Load() {
		l.crowd.Store(crowd)
	}
	l.mu.Lock()
	for i, e := range l.events[:n] {
		l.told[i] = l.handlerOf(Slot{uint32(e.Fd), uint32(e.Pad)})
	}
	l.mu.Unlock()
	for i, h := range l.told[:n] {
		if h != nil {
			l.told[i] = nil
			h.Ready(l.events[i].Events)
		}
	}
}

// handlerOf is nil for a registration that has ended. The caller holds mu.
func (l *Loop) handlerOf(s Slot) Handler {
	if e := l.entry(s); e.round == s.round {
		return e.handler
	}
	return nil
}

func (l *Loop) entry(s Slot) *entry {
	return &l.chunks[(s.at-1)/chunkSize].entries[(s.at-1)%chunkSize]
}

func (l *Loop) dispatch(s Slot, events uint32) {
	l.mu.Lock()
	h := l.handlerOf(s)
	l.mu.Unlock()
	if h != nil {
		h.Ready(events)
	}
}

// left reports, after n events, whether somebody called Again, and whether
// those were all: with room for more, whatever comes next wakes us again, but
// a level that still holds does not.
func (l *Loop) left(n int) (busy, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.again) > 0, n == 0 || n < len(l.events) && !l.levels
}

func (l *Loop) takeAgain(into []Slot) []Slot {
	l.mu.Lock()
	defer l.mu.Unlock()
	into = append(into, l.again...)
	l.again = l.again[:0]
	return into
}

// Add registers a descriptor for epoll events. The caller keeps it, and calls
// Remove or Forget before he closes it.
func (l *Loop) Add(fd int, events uint32, h Handler) (Slot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return Slot{}, closedError{}
	}
	s := l.take(h)
	l.levels = l.levels || events&(unix.EPOLLET|unix.EPOLLONESHOT) == 0
	if err := epollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, s.event(events)); err != nil {
		l.put(s)
		return Slot{}, failed("epoll_ctl", err)
	}
	return s, nil
}

func (s Slot) event(events uint32) *unix.EpollEvent {
	return &unix.EpollEvent{Events: events, Fd: int32(s.at), Pad: int32(s.round)}
}

// take finds a free entry for h. The caller holds mu.
func (l *Loop) take(h Handler) Slot {
	if len(l.unused) == 0 {
		l.chunks = append(l.chunks, &chunk{loop: l})
		for at := len(l.chunks) * chunkSize; at > (len(l.chunks)-1)*chunkSize; at-- {
			l.unused = append(l.unused, uint32(at))
		}
	}
	s := Slot{at: l.unused[len(l.unused)-1]}
	l.unused = l.unused[:len(l.unused)-1]
	e := l.entry(s)
	e.handler, s.round = h, e.round
	return s
}

// put frees an entry: events that are on their way name an old round. The
// caller holds mu.
func (l *Loop) put(s Slot) {
	if e := l.entry(s); e.round == s.round && e.handler != nil {
		e.handler = nil
		e.round++
		l.unused = append(l.unused, s.at)
	}
}

// Modify changes the events of a registration and arms it again.
func (l *Loop) Modify(fd int, s Slot, events uint32) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended || s.free() {
		return closedError{}
	}
	return failed("epoll_ctl", epollCtl(l.epoll, unix.EPOLL_CTL_MOD, fd, s.event(events)))
}

// Remove ends a registration. Afterwards the handler may still run once for
// an event that was on its way, but not for one of another descriptor.
func (l *Loop) Remove(fd int, s Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && !s.free() {
		epollCtl(l.epoll, unix.EPOLL_CTL_DEL, fd, nil)
		l.put(s)
	}
}

// Forget is Remove for a descriptor that is closed right afterwards and has no
// duplicate: the kernel then does the rest.
func (l *Loop) Forget(s Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && !s.free() {
		l.put(s)
	}
}

// Again calls the handler of s with no events after everybody else had his
// turn. It may be called from Ready only.
func (l *Loop) Again(s Slot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && !s.free() {
		l.again = append(l.again, s)
	}
}

// forgetful is a Handler that may ask to be reminded.
type forgetful interface {
	// reminded is called as Expirer.Expire is. It may be for somebody who had
	// the slot before.
	reminded()
}

// remind has a forgetful handler reminded at a tick. A later call replaces an
// earlier one.
func (l *Loop) remind(s Slot, tick int32) {
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return
	}
	c := l.chunks[(s.at-1)/chunkSize]
	l.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entries[(s.at-1)%chunkSize].remind = tick
	c.wake(tick)
}

// wake sets the timer, if it is not set to an earlier tick. The caller holds mu.
func (c *chunk) wake(tick int32) {
	if c.set == 0 || tick < c.set {
		c.set = tick
		c.loop.setTick(&c.timer, int64(tick), c)
	}
}

// Expire reminds those whose time has come.
func (c *chunk) Expire() {
	var due [chunkSize]forgetful
	for _, who := range due[:c.takeDue(&due)] {
		who.reminded()
	}
}

func (c *chunk) takeDue(due *[chunkSize]forgetful) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.loop.Ticks()
	c.set = 0
	next := int32(never)
	for i := range c.entries {
		switch e := &c.entries[i]; {
		case e.remind == 0:
		case int64(e.remind) > now:
			next = min(next, e.remind)
		default:
			e.remind = 0
			if who, ok := c.loop.forgetful(e); ok {
				due[n] = who
				n++
			}
		}
	}
	if next != never {
		c.wake(next)
	}
	return n
}

// forgetful is the handler of an entry, if it is one.
func (l *Loop) forgetful(e *entry) (who forgetful, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	who, ok = e.handler.(forgetful)
	return who, ok
}

// interrupt wakes Run.
func (l *Loop) interrupt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ending = true // no tick moves the deadline again
	l.file.SetReadDeadline(time.Unix(1, 0))
}

// end frees the loop and tells everybody.
func (l *Loop) end() {
	l.mu.Lock()
	l.ended = true
	chunks := l.chunks
	l.chunks, l.unused, l.again = nil, nil, nil
	l.wheel.heads, l.wheel.count = [buckets]*Timer{}, 0
	l.file.Close()
	l.mu.Unlock()
	for _, c := range chunks {
		for i := range c.entries {
			if h := c.entries[i].handler; h != nil {
				h.Stopped()
			}
		}
	}
	l.crew.end()
	l.pipes.end()
}
