package backend

import (
	"bytes"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Flood is load that runs in the backend's thread.
type Flood interface {
	Start() error
	Stop()
	// Owns reports whether a descriptor is the flood's.
	Owns(fd int) bool
	// Ready handles one that is.
	Ready(fd int, events uint32)
}

// nap is below what the requests of a flood that wait at a proxy take it.
const nap = 50 * time.Microsecond

// command carries out the commands that have come and counts them. The end of
// the input is the end of the backend.
func (s *server) command() {
	n, err := unix.Read(0, s.buffer)
	if n <= 0 && err != unix.EAGAIN {
		s.conns[0].mode = unused
		return
	}
	s.commands = append(s.commands, s.buffer[:max(n, 0)]...)
	for {
		line, rest, whole := bytes.Cut(s.commands, []byte("\n"))
		if !whole {
			return
		}
		if s.flood != nil {
			s.flood.Stop()
			s.flood = nil
		}
		s.loop.Nap = nap
		switch string(line) {
		case "stop":
			s.loop.Nap = 0
		case "batch":
		default:
			flood, err := s.newFlood(line, s.loop)
			if err == nil {
				s.flood = flood
				err = flood.Start()
			}
			if err != nil {
				fmt.Println("flood:", err)
			}
		}
		s.commands = rest
		s.count.Commands.Add(1)
	}
}
