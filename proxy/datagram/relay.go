package datagram

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Limits bounds what a Relay keeps; fields left 0 take their default.
type Limits struct {
	Sessions  int // at once. Default: 20,000
	PerClient int // at once of one IPv4 address or IPv6 /64. Default: 1,000
	Opening   int // at once whose VM is being chosen. Default: 1,000
}

func (l Limits) orDefaults() Limits {
	for _, f := range []struct {
		v *int
		d int
	}{{&l.Sessions, 20_000}, {&l.PerClient, 1000}, {&l.Opening, 1000}} {
		if *f.v == 0 {
			*f.v = f.d
		}
	}
	return l
}

// Traffic is what went one way.
type Traffic struct{ Bytes, Datagrams int64 }

func (t *Traffic) add(u Traffic) {
	t.Bytes += u.Bytes
	t.Datagrams += u.Datagrams
}

// Result says how a session went.
type Result struct {
	Up, Down Traffic      // sent on client→VM and VM→client
	Dropped  int64        // datagrams that could not be sent on, or were too many to be held
	Side     message.Side // who ended it: VMSide when its port is closed, else UsherSide
	Reason   string       // "idle", "refused", "evicted", "drain", what Abort was told, or an error's text
}

// Target is where the datagrams of a session go.
type Target struct {
	VM netip.AddrPort
	// From is the address that the VM is to see instead of one of ours
	// (IP_TRANSPARENT); invalid for one of ours.
	From netip.Addr
	// Header goes before the first datagram, inside it.
	Header []byte
	// Idle ends the session when nothing has come either way for so long, and
	// at most a second later; 0 is never.
	Idle time.Duration
	// Refused is told that the VM's port turned out to be closed, or that the
	// VM cannot be reached. It must not block. It may be nil.
	Refused func(error)
	// Answered is told of the first datagram of the VM's. It must not block.
	// It may be nil.
	Answered func()
	// Ended is told of the end of the session, once, from a goroutine of its
	// own. It may be nil.
	Ended func(Result)
}

// Opener chooses the VM of a new session. It may wait until ctx ends, which it
// does with the session; an error ends the session, and whoever opens tells
// the log. A Target that was returned is always told of the end.
type Opener interface {
	Open(ctx context.Context, s *Session) (Target, error)
}

// Relay is all UDP listeners of a process and their sessions.
type Relay struct {
	limits Limits
	local  func(netip.Addr) bool
	quiet  time.Duration // how long a session may be silent while usher drains
	loop   *socket.Loop
	group  sync.WaitGroup // goroutines that open sessions and tell of their end

	mu        sync.Mutex
	listeners map[string]*Listener  // by address as given to Listen
	orders    [2]order              // of all sessions, by kind
	clients   map[netip.Addr]*order // sessions of each
	opening   int                   // sessions whose VM is being chosen
	telling   int                   // goroutines that tell of an end
	draining  bool
	stopped   bool
	idle      chan struct{} // closed when it drains and nothing is left
	closed    bool          // idle is
	in        *inbox
	out       outbox
}

// New makes a Relay that does nothing before Run. local tells the addresses of
// this machine.
func New(l Limits, local func(netip.Addr) bool) (*Relay, error) {
	loop, err := socket.NewLoop()
	if err != nil {
		return nil, err
	}
	return &Relay{
		limits: l.orDefaults(), local: local, quiet: 5 * time.Second, loop: loop, in: newInbox(),
		listeners: make(map[string]*Listener), clients: make(map[netip.Addr]*order), idle: make(chan struct{}),
	}, nil
}

// Run relays until ctx ends; then it ends all sessions, as if drained, closes
// the listeners, and returns when the last session was told.
func (r *Relay) Run(ctx context.Context) error {
	err := r.loop.Run(ctx)
	r.mu.Lock()
	r.stopped = true
	for _, l := range r.listeners {
		l.stop()
	}
	r.mu.Unlock()
	r.group.Wait()
	return err
}

// Drain takes no new sessions. Those that have been quiet for five seconds end;
// the others go on until they are, or are aborted.
func (r *Relay) Drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.draining = true
	for _, l := range r.listeners {
		for _, s := range l.sessions {
			s.hurry()
		}
	}
	r.lookIdle()
}

// Drained is closed when, after Drain, the last session has ended and was told.
func (r *Relay) Drained() <-chan struct{} { return r.idle }

// lookIdle is called with mu held.
func (r *Relay) lookIdle() {
	if r.draining && !r.closed && r.count()+r.opening+r.telling == 0 {
		r.closed = true
		close(r.idle)
	}
}

// told is the end of a goroutine that tells of an end.
func (r *Relay) told() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.telling--
	r.lookIdle()
}

// Sessions is how many sessions there are.
func (r *Relay) Sessions() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count()
}

// Owns reports whether an address is that of a listener. Nothing may be sent
// there: each datagram would begin a session, without end.
func (r *Relay) Owns(a netip.AddrPort) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.owns(a)
}

func (r *Relay) owns(a netip.AddrPort) bool {
	for _, l := range r.listeners {
		if l.addr.Port() == a.Port() && (l.addr.Addr() == a.Addr() || l.addr.Addr().IsUnspecified() && r.local(a.Addr())) {
			return true
		}
	}
	return false
}

func (r *Relay) count() int { return r.orders[fresh].Len() + r.orders[assured].Len() }
