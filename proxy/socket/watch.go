package socket

import (
	"context"

	"golang.org/x/sys/unix"
)

const hangUp = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR

// inLoop is a Socket as its Loop sees it.
type inLoop Socket

// Ready wakes a parked Socket, or tells the watcher that the peer is gone.
func (h *inLoop) Ready(events uint32) {
	s := (*Socket)(h)
	s.mu.Lock()
	if s.parked != nil {
		s.unpark(true)
		s.mu.Unlock()
		return
	}
	tell := s.watching && events&hangUp != 0
	if tell {
		s.watching, s.gone = false, true
	}
	s.mu.Unlock()
	if tell {
		s.tellGone()
	}
}

// Stopped wakes a parked Socket when its Loop ends.
func (h *inLoop) Stopped() {
	s := (*Socket)(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slot, s.watching = Slot{}, false
	s.unpark(false)
}

// Watch calls gone at most once, from another goroutine, when the peer closes
// its side or resets, even while bytes wait to be read. Watch(nil) ends that;
// when it returns, gone is not running and will not run. gone must not block,
// and must not call Watch.
//
// The end of the peer is asked for once in the life of a Socket: later calls
// cost no system call.
func (s *Socket) Watch(gone func()) {
	s.watchMu.Lock()
	s.onGone = gone
	s.watchMu.Unlock()
	if gone == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone {
		go s.tellGone()
	} else if !s.watching && s.parked == nil && !s.closed() {
		l := s.watchLoop()
		s.watching = l != nil && s.joinLoop(l, hangUp|unix.EPOLLONESHOT) == nil
	}
}

// tellGone calls the watcher, if there still is one.
func (s *Socket) tellGone() {
	s.watchMu.Lock()
	defer s.watchMu.Unlock()
	if gone := s.onGone; gone != nil {
		s.onGone = nil
		gone()
	}
}

// watchLoop is the loop to watch with, or nil. The caller holds mu.
func (s *Socket) watchLoop() *Loop {
	if s.loop == nil {
		s.startLoop()
	}
	return s.loop
}

// startLoop gives the Socket a loop of its own until it is closed. Without
// descriptors for one, there is nothing to watch with.
func (s *Socket) startLoop() {
	l, err := NewLoop()
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.loop, s.ownLoop = l, cancel
	go l.Run(ctx)
}
