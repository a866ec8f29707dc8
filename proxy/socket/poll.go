package socket

import (
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// What is known of a direction. A try clears fresh first: whatever happens
// afterwards makes it fresh again, so that a try that found nothing, or a read
// that did not fill its buffer, need not be repeated before the next event.
const (
	quiet   = iota // nothing has happened since the last try
	fresh          // something may have happened
	awaited        // quiet, and somebody sleeps until that changes
	lapsed         // somebody slept until a limit passed
)

// direction is one half of a Socket: its reading, or its writing. Its one user
// sleeps in it; the loop, timers and Close wake him.
type direction struct {
	news     atomic.Uint32
	timeout  milliseconds // of each wait, for writing alone
	deadline atomic.Int64 // on the clock of now; 0 is none. Changed with mu held, or by ReadUntil
	bed      *bed         // made by the first sleep, with mu held
}

// bed is what only a sleep needs.
type bed struct {
	wake  chan struct{} // holds one wake for each sleep
	armed atomic.Int64  // when the timer fires; 0 is never. Changed with mu held
	timer *time.Timer   // mu
}

// writing is the direction with a limit for each wait.
type writing struct {
	direction
	till    int64 // when the timeout ends, mu; 0 is never
	left    int32 // bytes that the peer had not taken when it last took some
	outward bool  // mu; the loop tells when the kernel takes bytes again
}

// milliseconds is a time.Duration that is rounded up to them, and 24 days at
// most.
type milliseconds struct{ n atomic.Int32 }

// Load returns nanoseconds.
func (m *milliseconds) Load() int64 { return int64(m.n.Load()) * 1e6 }

// Store takes nanoseconds.
func (m *milliseconds) Store(d int64) { m.n.Store(int32(min((d+1e6-1)/1e6, math.MaxInt32))) }

// epoch begins the clock of deadlines; never changed.
var epoch = time.Now()

// now is the monotonic time since epoch, never 0.
func now() int64 { return int64(time.Since(epoch)) + 1 }

// moment is t on the clock of now: 0 for none, else at least 1.
func moment(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(int64(t.Sub(epoch))+1, 1)
}

// tell notes an event and wakes who sleeps.
func (d *direction) tell() {
	if d.news.Swap(fresh) == awaited {
		d.bed.wake <- struct{}{}
	}
}

// lapse wakes who sleeps because his time is over.
func (d *direction) lapse() {
	if d.news.CompareAndSwap(awaited, lapsed) {
		d.bed.wake <- struct{}{}
	}
}

// change is for news that are seldom what they were: the processor does not
// wait for a swap that would fail.
func (d *direction) change(old, new uint32) bool {
	return d.news.Load() == old && d.news.CompareAndSwap(old, new)
}

// seen forgets what has happened so far, before a try.
func (d *direction) seen() { d.change(fresh, quiet) }

// more notes that another try may find something.
func (d *direction) more() { d.change(quiet, fresh) }

// disarm frees what only a sleep needs. The caller holds the mutex of the
// Socket, and nobody sleeps.
func (d *direction) disarm() {
	if d.bed != nil && d.bed.timer != nil {
		d.bed.timer.Stop()
	}
	d.bed = nil
}

// makeBed readies d for a sleep.
func (s *Socket) makeBed(d *direction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.bed = &bed{wake: make(chan struct{}, 1)}
}

// join registers with the loop, if that was not done before. Events are edges,
// and those of writing are asked for once a write had to wait.
func (s *Socket) join() error {
	state := s.state.Load()
	if state&(joined|orphaned) == joined {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.joinLocked()
}

const (
	inward  = unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLRDHUP | unix.EPOLLET
	outward = inward | unix.EPOLLOUT
)

func (s *Socket) joinLocked() (err error) {
	switch state := s.state.Load(); {
	case state&(closed|orphaned) != 0:
		return closedError{}
	case state&joined != 0:
		return nil
	}
	if s.loop == nil {
		if err := s.startLoop(); err != nil {
			return err
		}
	}
	events := uint32(inward)
	if s.out.outward {
		events = outward
	}
	if s.slot, err = s.loop.Add(s.fd, events, (*inLoop)(s)); err == nil {
		s.state.Or(joined)
	}
	return err
}

// face has the loop tell when the kernel takes bytes again.
func (s *Socket) face() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.out.outward {
		return s.joinLocked()
	}
	s.out.outward = true
	if s.state.Load()&joined == 0 {
		return s.joinLocked()
	}
	return s.loop.Modify(s.fd, s.slot, outward)
}

// sleep waits until d is fresh. past is the bit of its deadline. It fails with
// errLapsed when a limit of d has passed.
func (s *Socket) sleep(d *direction, past uint64) error {
	if d.bed == nil {
		s.makeBed(d)
	}
	if !d.news.CompareAndSwap(quiet, awaited) {
		return s.why(past)
	}
	// From now on whoever changes the deadline, or closes, wakes us.
	if err := s.prepare(d, past); err != nil {
		if !d.news.CompareAndSwap(awaited, quiet) {
			<-d.bed.wake
			d.news.CompareAndSwap(lapsed, quiet)
		}
		return err
	}
	<-d.bed.wake
	if d.change(lapsed, quiet) {
		return errLapsed
	}
	return s.why(past)
}

// why is the reason to stop trying, nil for none.
func (s *Socket) why(past uint64) error {
	switch state := s.state.Load(); {
	case state&(closed|orphaned) != 0:
		return closedError{}
	case state&past != 0:
		return os.ErrDeadlineExceeded
	}
	return nil
}

// prepare sets the timer of a sleep.
func (s *Socket) prepare(d *direction, past uint64) error {
	if err := s.why(past); err != nil {
		return err
	}
	due := d.deadline.Load()
	if d == &s.out.direction {
		due = earlier(due, s.out.till)
	}
	if armed := d.bed.armed.Load(); due == 0 || armed != 0 && armed <= due {
		return nil // a timer that fires too early is set again then
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.arm(d) {
		return errLapsed
	}
	return nil
}

// arm sets the timer of a direction to what is due, and reports false if that
// is over. The caller holds mu.
func (s *Socket) arm(d *direction) bool {
	due := d.deadline.Load()
	if d == &s.out.direction {
		due = earlier(due, s.out.till)
	}
	if due == 0 {
		return true
	}
	left := time.Duration(due - now())
	if left <= 0 {
		return false
	}
	b := d.bed
	b.armed.Store(due)
	if b.timer != nil {
		b.timer.Reset(left)
		return true
	}
	b.timer = time.AfterFunc(left, func() { s.rang(d, b) })
	return true
}

// rang is called when the timer of a bed has fired.
func (s *Socket) rang(d *direction, b *bed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b.armed.Store(0)
	if s.closed() || d.bed != b || d.news.Load() != awaited {
		return
	}
	if !s.arm(d) {
		d.lapse()
	}
}

// earlier is the first of two moments, of which 0 is never.
func earlier(a, b int64) int64 {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}

// expired looks, after errLapsed, whether the deadline of d has passed; if so
// it stays so until another one is set.
func (s *Socket) expired(d *direction, past uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := d.deadline.Load(); t == 0 || t > now() {
		return false
	}
	s.state.Or(past)
	return true
}
