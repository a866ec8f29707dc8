package load

import (
	"errors"
	"os"
	"runtime"
	"runtime/debug"

	"usher/bench/backend"
	"usher/bench/epoll"
	"usher/bench/share"
)

type tunnelFlood struct {
	loop   *epoll.Loop
	count  *share.Counters
	peer   *epoll.Peer
	hello  []byte
	got    []int // bytes of the answer, by descriptor; unsent: the hello is still to be sent
	buffer []byte
}

const (
	unsent      = -1
	endOfStream = 0x2018 // EPOLLRDHUP, EPOLLHUP, EPOLLERR
)

// floodTunnels opens tunnels one after the other: a ClientHello, a tiny answer,
// the far end closes. A tunnel is done when the end of the stream has arrived
// after the whole answer.
func floodTunnels(p Plan, count *share.Counters) error {
	runtime.LockOSThread()
	debug.SetGCPercent(-1)
	hello, err := os.ReadFile(p.Hello)
	if err != nil {
		return err
	}
	loop, err := epoll.New()
	if err != nil {
		return err
	}
	f := &tunnelFlood{loop: loop, count: count, peer: epoll.PeerOf(p.Addr), hello: hello, got: make([]int, p.Conns+64), buffer: make([]byte, 4096)}
	for range p.Conns {
		if !f.dial() {
			return errors.New("cannot dial")
		}
	}
	for {
		if err := loop.Wait(-1, f.ready); err != nil {
			return err
		}
	}
}

func (f *tunnelFlood) dial() bool {
	fd := epoll.Dial(f.peer)
	if fd < 0 || fd >= len(f.got) {
		return false
	}
	if f.got[fd] = 0; epoll.Write(fd, f.hello) != len(f.hello) {
		f.got[fd] = unsent // the queue of the listener is full
		return f.loop.Add(fd) == nil
	}
	return f.loop.AddInput(fd) == nil
}

func (f *tunnelFlood) ready(fd int, events uint32) {
	if f.got[fd] == unsent {
		if events&epoll.Out == 0 {
			return
		}
		if f.got[fd] = 0; epoll.Write(fd, f.hello) != len(f.hello) {
			f.over(fd, false)
			return
		}
	}
	for {
		n := epoll.Read(fd, f.buffer)
		switch {
		case n == epoll.Again:
			return
		case n > 0:
			f.got[fd] += n
			if events&endOfStream == 0 {
				return // the end is an edge of its own
			}
		default:
			f.over(fd, n == 0 && f.got[fd] == len(backend.Tiny))
			return
		}
	}
}

// over counts a tunnel and opens the next.
func (f *tunnelFlood) over(fd int, ok bool) {
	epoll.Close(fd)
	if ok {
		f.count.Done.Add(1)
	} else {
		f.count.Failed.Add(1)
	}
	if !f.dial() {
		f.count.Failed.Add(1)
	}
}
