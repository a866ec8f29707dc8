package load

import (
	"errors"
	"fmt"

	"usher/bench/epoll"
	"usher/bench/share"
)

// Flood keeps its connections as busy as the proxy can bear. It runs in the
// thread of the backend, which serves the other side of the proxy: two processes
// on one core would spend their time in changing places.
type Flood struct {
	loop  *epoll.Loop
	count *share.Counters
	peer  *epoll.Peer
	conns int
	kind  flooder
	slots []slot // by descriptor
}

// slot is one connection of a flood.
type slot struct {
	used  bool
	out   []byte // to be written
	state any    // of the kind
}

// flooder is what differs between kinds of load.
type flooder interface {
	// open returns what a new connection sends and what it is read with.
	open() (out []byte, state any, err error)
	// read is called when the socket can be read or has ended. It returns what
	// is to be sent next, if anything. A done or failed unit on a connection
	// that is not to be used again has over set.
	read(fd int, s *slot, ended bool) (next []byte, over bool)
}

// NewFlood prepares the flood of a plan; nothing is connected.
func NewFlood(p Plan, loop *epoll.Loop) (*Flood, error) {
	count, err := share.Open(p.Counters)
	if err != nil {
		return nil, err
	}
	f := &Flood{loop: loop, count: count, peer: epoll.PeerOf(p.Addr), conns: p.Conns, slots: make([]slot, 1<<15)}
	switch p.Kind {
	case "h1", "post":
		f.kind = &httpFlood{count: count, request: p.request(), buffer: make([]byte, 16<<10)}
	case "once":
		f.kind, err = newTunnelFlood(p, count)
	case "tls", "tls-full", "tls-resumed":
		f.kind, err = newTLSFlood(p, count)
	default:
		err = fmt.Errorf("no flood is called %q", p.Kind)
	}
	return f, err
}

// Floods reports whether there is a flood for a kind of load.
func (p Plan) Floods() bool {
	switch p.Kind {
	case "h1", "post", "once", "tls", "tls-full", "tls-resumed":
		return true
	}
	return false
}

// Start opens the connections.
func (f *Flood) Start() error {
	for range f.conns {
		if err := f.dial(); err != nil {
			return err
		}
	}
	return nil
}

// Stop closes them.
func (f *Flood) Stop() {
	for fd := range f.slots {
		if f.slots[fd].used {
			f.slots[fd].used = false
			epoll.Close(fd)
		}
	}
}

// Owns reports whether a descriptor is the flood's.
func (f *Flood) Owns(fd int) bool { return fd < len(f.slots) && f.slots[fd].used }

func (f *Flood) dial() error {
	out, state, err := f.kind.open()
	if err != nil {
		return err
	}
	fd := epoll.Dial(f.peer)
	if fd < 0 || fd >= len(f.slots) {
		return errors.New("cannot dial")
	}
	s := &f.slots[fd]
	*s = slot{used: true, out: out, state: state}
	// On loopback a connection is there at once, unless the listener's queue is
	// full. What is small is never written in part later on, either.
	s.out = out[max(epoll.Write(fd, out), 0):]
	if len(s.out) == 0 && len(out) <= 4<<10 {
		return f.loop.AddInput(fd)
	}
	return f.loop.Add(fd)
}

// endOfStream is EPOLLRDHUP, EPOLLHUP and EPOLLERR.
const endOfStream = 0x2018

// Ready handles a descriptor of the flood.
func (f *Flood) Ready(fd int, events uint32) {
	s := &f.slots[fd]
	if len(s.out) > 0 {
		if !f.write(fd, s) || len(s.out) > 0 {
			return
		}
	}
	if events&^uint32(epoll.Out) == 0 {
		return
	}
	next, over := f.kind.read(fd, s, events&endOfStream != 0)
	if over {
		f.replace(fd, s)
		return
	}
	if len(next) > 0 {
		s.out = next
		f.write(fd, s)
	}
}

// write reports false if the connection was replaced.
func (f *Flood) write(fd int, s *slot) bool {
	n := epoll.Write(fd, s.out)
	if n == epoll.Failed {
		f.count.Failed.Add(1)
		f.replace(fd, s)
		return false
	}
	s.out = s.out[max(n, 0):]
	return true
}

func (f *Flood) replace(fd int, s *slot) {
	s.used = false
	epoll.Close(fd)
	if f.dial() != nil {
		f.count.Failed.Add(1)
	}
}
