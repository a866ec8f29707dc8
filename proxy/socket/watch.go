package socket

import (
	"context"
	"sync"

	"golang.org/x/sys/unix"
)

const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// inLoop is a Socket as its Loop sees it.
type inLoop Socket

// Ready wakes who reads, writes or watches, and a parked Socket.
func (h *inLoop) Ready(events uint32) {
	s := (*Socket)(h)
	if events&(hangUp|unix.EPOLLPRI) != 0 {
		s.noteEnd(events)
	}
	if events&(unix.EPOLLIN|unix.EPOLLPRI|hangUp) != 0 {
		s.in.tell()
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.out.tell()
	}
	if s.state.Load()&parked != 0 {
		s.mu.Lock()
		s.unpark(true)
		s.mu.Unlock()
	}
	if w := s.watcher.Load(); w != nil && events&hangUp != 0 {
		w.tell()
	}
}

// noteEnd remembers that the peer has closed, or sent what makes reads stop
// short: no event comes for what is behind it.
func (s *Socket) noteEnd(events uint32) {
	if events&hangUp != 0 {
		s.state.Or(hungUp | thorough)
	} else {
		s.state.Or(thorough)
	}
}

// Stopped ends all that waits for the Loop, which has ended.
func (h *inLoop) Stopped() {
	s := (*Socket)(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot = Slot{}
	s.state.Or(orphaned)
	s.in.tell()
	s.out.tell()
	s.unpark(false)
}

// Watch calls gone at most once, from another goroutine, when the peer closes
// its side or resets, even while bytes wait to be read. Watch(nil) ends that;
// when it returns, gone is not running and will not run. gone must not block,
// and must not call Watch. It costs a system call only on a Socket that has
// never waited.
func (s *Socket) Watch(gone func()) {
	if gone == nil && s.watcher.Load() == nil {
		return
	}
	w := s.watching()
	w.set(gone)
	if gone != nil && s.join() == nil && s.state.Load()&hungUp != 0 {
		go w.tell()
	}
}

// watcher is who is told of ends.
type watcher struct {
	mu       sync.Mutex    // held while gone runs
	gone     func()        // mu; told of the end of the peer
	detached chan struct{} // the mutex of the Socket; closed, if there is one, when nobody uses the descriptor any more
}

// watching is the watcher, made if need be.
func (s *Socket) watching() *watcher {
	if s.watcher.Load() == nil {
		s.watcher.CompareAndSwap(nil, new(watcher))
	}
	return s.watcher.Load()
}

func (w *watcher) set(gone func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = gone
}

// tell calls the watcher, if there still is one.
func (w *watcher) tell() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if gone := w.gone; gone != nil {
		w.gone = nil
		gone()
	}
}

// startLoop gives the Socket a loop of its own until it is closed. The caller
// holds mu.
func (s *Socket) startLoop() error {
	l, err := NewLoop()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.private = cancel
	s.loop = l
	go l.Run(ctx)
	return nil
}
