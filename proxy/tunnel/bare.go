package tunnel

import "time"

// guardAfter is when a wire sees to it that a VM that vanishes is noticed: most
// are over before.
const guardAfter = time.Second

// Ender is told how a tunnel went.
type Ender interface {
	// Ended is called once, when both ends are closed. It must not block: it
	// may run on the goroutine of the loop.
	Ended(Result)
}

// told is a function as an Ender.
type told func(Result)

// Ended calls the function.
func (f told) Ended(r Result) { f(r) }

// Bare is a tunnel between two descriptors, which cost as little as possible.
type Bare struct{ wire *wire }

// Bare makes a tunnel between the descriptors of a client and of a VM, which
// has been connected by socket.Dialer.Begin; see Relay.Start. It owns both from
// now on. Nothing moves before Start, but Abort may be called. done is told of
// the end.
func (r *Relay) Bare(client, vm int, idle time.Duration, done Ender) Bare {
	r.open.Add(1)
	w := newWire(r.lane(), idle, done)
	w.bare, w.guarded = true, false
	w.ends[0].fd, w.ends[1].fd = client, vm
	w.ends[1].slow = true
	return Bare{w}
}

// Start begins to relay. Of the client's first bytes so many have been sent to
// the VM; the others follow now, and are not used after Start.
func (b Bare) Start(first []byte, sent int) {
	w := b.wire
	w.mu.Lock()
	defer w.mu.Unlock()
	e := &w.ends[0]
	e.total.Add(int64(sent))
	if !w.ended {
		e.held = first[sent:]
		w.begin()
	}
}

// Abort is Tunnel.Abort.
func (b Bare) Abort(reason string) { b.wire.Abort(reason) }
