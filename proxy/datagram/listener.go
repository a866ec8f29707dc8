package datagram

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Listener is one UDP socket that clients send to.
type Listener struct {
	relay   *Relay
	address string // as given to Listen
	addr    netip.AddrPort
	family  int

	ctx    context.Context // of what Open waits for; set by Serve
	opener Opener          // set by Serve

	// What follows is guarded by the mutex of the relay.
	fd       int
	slot     socket.Slot
	serving  bool
	closing  bool // no new sessions; closed with the last one
	closed   bool
	sessions map[key]*Session
}

// key tells the sessions of a listener apart. local is what the client sent to
// where the listener has all addresses, else invalid.
type key struct {
	client netip.AddrPort
	local  netip.Addr
}

// Listen opens a UDP socket at addr ("host:port"; an empty host or "[::]"
// listens on IPv4 and IPv6, or on IPv4 alone where there is no IPv6). A
// listener of that address which is closing but still has sessions is taken up
// again instead.
func (r *Relay) Listen(addr string) (*Listener, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.listeners[addr]; l != nil {
		if !l.closing {
			return nil, fmt.Errorf("listen udp %q: it is open already", addr)
		}
		l.closing = false
		return l, nil
	}
	l, err := r.listen(addr)
	if err != nil {
		return nil, fmt.Errorf("listen udp %q: %w", addr, err)
	}
	r.listeners[addr] = l
	return l, nil
}

func (r *Relay) listen(addr string) (*Listener, error) {
	a, err := net.ResolveUDPAddr("udp", addr)
	if err != nil || addr == "" {
		return nil, cmp.Or(err, errors.New("missing address"))
	}
	at := netip.AddrPortFrom(a.AddrPort().Addr().Unmap(), uint16(a.Port))
	if !at.Addr().IsValid() {
		at = netip.AddrPortFrom(netip.IPv6Unspecified(), at.Port())
	}
	fd, err := bound(at)
	if at.Addr() == netip.IPv6Unspecified() && noIPv6(err) {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
		fd, err = bound(at)
	}
	if err != nil {
		return nil, err
	}
	l := &Listener{relay: r, address: addr, fd: fd, family: familyOf(at.Addr()), sessions: make(map[key]*Session)}
	if l.addr, err = localAddr(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// Addr is the address listened on, with the real port.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Sessions is how many clients have a session now.
func (l *Listener) Sessions() int {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	return len(l.sessions)
}

// Serve takes datagrams from now on; it returns at once. What opener waits for
// ends with ctx. A listener that serves already gets a new opener.
func (l *Listener) Serve(ctx context.Context, opener Opener) error {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	l.ctx, l.opener = ctx, opener
	if l.serving || l.closed {
		return nil
	}
	slot, err := l.relay.loop.Add(l.fd, unix.EPOLLIN, l)
	l.slot, l.serving = slot, err == nil
	return err
}

// Close takes no new sessions; the socket is closed with the last of those
// that there are.
func (l *Listener) Close() {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	l.closing = true
	l.closeIfUnused()
}

// closeIfUnused is called with the mutex of the relay held, as are the others
// below.
func (l *Listener) closeIfUnused() {
	if l.closing && !l.closed && len(l.sessions) == 0 {
		l.close()
	}
}

func (l *Listener) close() {
	l.closed = true
	l.relay.loop.Forget(l.slot)
	unix.Close(l.fd)
	delete(l.relay.listeners, l.address)
}

// stop ends everything when the relay has.
func (l *Listener) stop() {
	l.closing = true
	for _, s := range l.sessions {
		s.end(message.UsherSide, "drain")
	}
	l.closeIfUnused()
}

// Stopped is for the loop, whose end Run sees as well.
func (l *Listener) Stopped() {}

// Ready passes on one batch. Where there is more, the loop comes back after
// everybody else had his turn.
func (l *Listener) Ready(uint32) {
	r := l.relay
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.closed {
		return
	}
	n, _ := r.in.receive(l.fd) // an error of one client's is nothing to the others
	var last *Session
	for i := range n {
		s := l.session(i)
		if s == nil {
			continue
		}
		if last != nil && s != last {
			last.flush()
		}
		s.take(r.in.payload(i))
		last = s
	}
	if last != nil {
		last.flush()
	}
}

// session finds the session of a datagram, or begins it; nil if there can be
// none.
func (l *Listener) session(i int) *Session {
	in := l.relay.in
	k := key{client: in.source(i)}
	if l.addr.Addr().IsUnspecified() {
		k.local = in.destination(i)
	}
	if s := l.sessions[k]; s != nil {
		return s
	}
	if l.closing || !l.serving || k.client.Port() == 0 {
		return nil
	}
	if l.relay.owns(k.client) { // forged: answers would come back as questions
		return nil
	}
	return l.begin(k, in.names[i])
}

// begin makes a session and has its VM chosen.
func (l *Listener) begin(k key, client name) *Session {
	r := l.relay
	s := &Session{listener: l, client: k.client, key: k, name: client, fd: -1}
	s.local = l.addr
	if k.local.IsValid() {
		s.local = netip.AddrPortFrom(k.local, l.addr.Port())
		s.control, s.controlLen = returnTo(k.local, l.family)
	}
	if !r.admit(s) {
		return nil
	}
	l.sessions[k] = s
	r.opening++
	ctx, cancel := context.WithCancel(l.ctx)
	s.cancel = cancel
	opener := l.opener
	r.group.Go(func() { s.open(ctx, opener) })
	return s
}
