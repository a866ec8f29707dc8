package load

import (
	"os"

	"usher/bench/backend"
	"usher/bench/epoll"
	"usher/bench/share"
)

// tunnelFlood opens tunnels one after the other: a ClientHello, a tiny answer,
// the far end closes. A tunnel is done when the end of the stream has arrived
// after the whole answer.
type tunnelFlood struct {
	count  *share.Counters
	hello  []byte
	buffer []byte
}

func newTunnelFlood(p Plan, count *share.Counters) (*tunnelFlood, error) {
	hello, err := os.ReadFile(p.Hello)
	return &tunnelFlood{count, hello, make([]byte, 4096)}, err
}

func (f *tunnelFlood) open() ([]byte, any, error) { return f.hello, new(int), nil }

func (f *tunnelFlood) read(fd int, s *slot, ended bool) (next []byte, over bool) {
	got := s.state.(*int)
	for {
		n := epoll.Read(fd, f.buffer)
		switch {
		case n == epoll.Again:
			return nil, false
		case n > 0:
			if *got += n; !ended {
				return nil, false // the end is an edge of its own
			}
			continue
		}
		if n == 0 && *got == len(backend.Tiny) {
			f.count.Done.Add(1)
		} else {
			f.count.Failed.Add(1)
		}
		return nil, true
	}
}
