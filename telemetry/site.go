package telemetry

import (
	"sync/atomic"
	"time"
)

// Fault is how a backend failed.
type Fault uint8

// The kinds of backend faults.
const (
	FaultConnect     Fault = iota // refused, unreachable, a name that does not resolve
	FaultReset                    // closed or reset before the answer was complete
	FaultTimeout                  // no connection or no answer in time
	FaultBadResponse              // an answer that is not HTTP
	FaultTLS                      // its certificate is not the one expected
	faults
)

func (f Fault) String() string {
	return [faults]string{"connect", "reset", "timeout", "bad_response", "tls"}[f]
}

// Site is the counters of one site, or of all that share them. The first cache
// line is what an exchange touches.
type Site struct {
	classes [6]atomic.Uint64 // by first digit of the status; 0: the client was told nothing
	in, out atomic.Uint64

	busy      atomic.Int64 // nanoseconds
	label     string
	durations *histogram // of all sites
	tunnels   atomic.Uint64
	retries   atomic.Uint64
	failed    [faults]atomic.Uint64
	_         [40]byte // whole cache lines, so that two sites share none
}

// Count counts one exchange: the status that the client was told (0 for none),
// how long it took, and the body bytes from and to the client.
func (s *Site) Count(status int, took time.Duration, in, out int64) {
	class := status / 100
	if class < 0 || class > 5 {
		class = 0
	}
	s.classes[class].Add(1)
	s.Transferred(in, out)
	s.busy.Add(int64(took))
	s.durations.observe(took)
}

// Transferred adds bytes that no Count sees, those of tunnels.
func (s *Site) Transferred(in, out int64) {
	if in > 0 {
		s.in.Add(uint64(in))
	}
	if out > 0 {
		s.out.Add(uint64(out))
	}
}

// Tunnel counts a tunnel that ended, and its bytes.
func (s *Site) Tunnel(in, out int64) {
	s.tunnels.Add(1)
	s.Transferred(in, out)
}

// Failed counts a backend that failed.
func (s *Site) Failed(f Fault) { s.failed[f].Add(1) }

// Retried counts a request that was tried again on the same or another
// backend.
func (s *Site) Retried() { s.retries.Add(1) }

// Requests is how many exchanges were counted.
func (s *Site) Requests() uint64 {
	var n uint64
	for i := range s.classes {
		n += s.classes[i].Load()
	}
	return n
}

// Shared reports whether other sites are counted here too.
func (s *Site) Shared() bool { return s.label == otherLabel }
