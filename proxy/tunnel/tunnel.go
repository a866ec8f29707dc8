package tunnel

import (
	"errors"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Result says how a tunnel went.
type Result struct {
	Up, Down int64        // bytes delivered client→VM and VM→client
	Side     message.Side // who ended it: ClientSide or VMSide closed or failed first, UsherSide when idle, drained or aborted
	Reason   string       // "closed", "reset", "idle", "drain", or an error's text
}

// Relay starts tunnels and spreads them over its loops.
type Relay struct {
	lanes []*lane
	next  atomic.Uint32
	open  atomic.Int64
}

// New makes a Relay on loops that somebody runs; at least one. When a loop
// ends, so do its tunnels between bare sockets, as if drained; the others lose
// their idle limit.
func New(loops ...*socket.Loop) *Relay {
	r := &Relay{}
	for _, l := range loops {
		r.lanes = append(r.lanes, &lane{loop: l, open: &r.open})
	}
	return r
}

// Open is the number of tunnels that have not ended.
func (r *Relay) Open() int64 { return r.open.Load() }

// Tunnel is one running relay.
type Tunnel struct{ running }

// running is what a wire and a copier have in common.
type running interface {
	// Bytes is how much was delivered so far, client→VM and VM→client.
	Bytes() (up, down int64)
	// Abort resets both ends; done is told the reason with UsherSide. It may
	// be called at any time, also after the end.
	Abort(reason string)
}

// Start relays between client and vm until both directions have ended, half
// closes kept, or until idle passes without a byte either way, or Abort. A
// reset of one end becomes one of the other after what could be delivered. It
// owns both ends from now on, closes them, and then calls done once, from
// another goroutine. Start returns at once. Bytes that either end read ahead
// go first; the memory that Socket showed them in is not used after Start. An
// idle limit of 0 is none; it is met at most two seconds late.
func (r *Relay) Start(client, vm message.Duplex, idle time.Duration, done func(Result)) *Tunnel {
	r.open.Add(1)
	lane := r.lane()
	cs, cAhead := client.Socket()
	vs, vAhead := vm.Socket()
	if cs == nil || vs == nil {
		return &Tunnel{startCopier(lane, client, vm, idle, func(res Result) {
			r.open.Add(-1)
			done(res)
		})}
	}
	w := newWire(lane, idle, told(done))
	w.take(0, client, cs, cAhead)
	w.take(1, vm, vs, vAhead)
	w.start()
	return &Tunnel{w}
}

func (r *Relay) lane() *lane { return r.lanes[r.next.Add(1)%uint32(len(r.lanes))] }

// FromSocket makes a socket that carries raw bytes an end of a tunnel. What
// was given back to it with Unread goes first.
func FromSocket(s *socket.Socket) message.Duplex { return plain{s} }

type plain struct{ *bare }

type bare = socket.Socket // embedded by this name: Socket is a method

// Abort closes with a reset, whatever the reason.
func (p plain) Abort(error) { p.bare.Abort() }

// Socket is all that there is.
func (p plain) Socket() (*socket.Socket, []byte) { return p.bare, nil }

// reasonOf is a failure in the words of Result.
func reasonOf(err error) string {
	var errno syscall.Errno
	switch {
	case err == nil || err == io.EOF:
		return "closed"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// sideOf names the end with that index: 0 is the client.
func sideOf(i int) message.Side {
	if i == 0 {
		return message.ClientSide
	}
	return message.VMSide
}
