package socket

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Socket is one stream descriptor (TCP or Unix) with the bytes that were read
// ahead of it. One goroutine may read while another writes; Close, Abort,
// Watch and the deadlines may come from any. It implements net.Conn for
// crypto/tls.
type Socket struct {
	state atomic.Uint64 // see state.go
	fd    int           // never changed; used between enter and leave
	in    direction
	out   writing

	mu    sync.Mutex
	loop  *Loop   // mu; fixed once the state says joined
	slot  Slot    // mu; registration with loop
	owner Resumer // mu; while parked

	watcher atomic.Pointer[watcher] // made when it is needed first
	*spare                          // noSpare, or made when it is needed first
	origin  *origin                 // nil when there is nothing to say
	remote  address
	until   int32 // mu; tick of the loop that ends the parking, see parkUntil
}

// spare is what few sockets have for long.
type spare struct {
	ahead []byte         // read before, handed out first; owned by the reader
	zoned netip.AddrPort // a remote address that has a zone
}

var (
	noSpare   = new(spare) // never changed
	sparePool = sync.Pool{New: func() any { return new(spare) }}
)

// spares makes room for what few sockets have.
func (s *Socket) spares() *spare {
	if s.spare == noSpare {
		s.spare = sparePool.Get().(*spare)
	}
	return s.spare
}

// emptied forgets what was read ahead.
func (s *Socket) emptied() {
	if s.ahead = nil; s.remote.kind != withZone {
		sparePool.Put(s.spare)
		s.spare = noSpare
	}
}

// address is a netip.AddrPort in less room, without its zone.
type address struct {
	ip   [16]byte
	port uint16
	kind kind
}

type kind uint8

const (
	absent kind = iota
	ipv4
	ipv6
	withZone // to be found elsewhere
)

func (s *Socket) setRemote(a netip.AddrPort) {
	s.remote = address{a.Addr().As16(), a.Port(), ipv6}
	switch ip := a.Addr(); {
	case ip.Is4():
		s.remote.kind = ipv4
	case ip.Zone() != "":
		s.remote.kind = withZone
		s.spares().zoned = a
	}
}

var _ net.Conn = (*Socket)(nil)

// origin is what the sockets that a listener accepted at one address share.
type origin struct {
	local netip.AddrPort
	open  *atomic.Int64 // how many sockets the listener has; nil without one
}

func (o *origin) closed() {
	if o.open != nil {
		o.open.Add(-1)
	}
}

// New takes ownership of a connected, non-blocking descriptor. An invalid
// local address is looked up when it is asked for.
func New(fd int, remote, local netip.AddrPort) *Socket {
	s := &Socket{fd: fd, spare: noSpare}
	if local.IsValid() {
		s.origin = &origin{local: local}
	}
	s.state.Store(1)
	if !remote.IsValid() {
		// A Unix socket hands out what was sent with descriptors piece by
		// piece: a short read does not say that nothing is left.
		s.state.Store(1 | thorough)
		return s
	}
	s.setRemote(remote)
	return s
}

// UseLoop names the Loop that waits for the Socket. Without one, a Socket that
// has to wait starts a loop of its own, which is expensive. It has no effect
// once the Socket has waited.
func (s *Socket) UseLoop(l *Loop) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slot.free() && (s.loop == nil || s.loop.private == nil) {
		s.loop = l
	}
}

// Unread makes b the next bytes that Read returns; the Socket keeps b.
func (s *Socket) Unread(b []byte) { s.spares().ahead = append(b[:len(b):len(b)], s.ahead...) }

// Ahead is what Unread gave back and nobody has read yet.
func (s *Socket) Ahead() []byte { return s.ahead }

func (s *Socket) takeAhead(p []byte) int {
	n := copy(p, s.ahead) // there is something
	if s.ahead = s.ahead[n:]; len(s.ahead) == 0 {
		s.emptied()
	}
	return n
}

// Remote is the peer's address; invalid for a Unix socket.
func (s *Socket) Remote() netip.AddrPort {
	ip := netip.AddrFrom16(s.remote.ip)
	switch s.remote.kind {
	case absent:
		return netip.AddrPort{}
	case withZone:
		return s.zoned
	case ipv4:
		ip = ip.Unmap()
	}
	return netip.AddrPortFrom(ip, s.remote.port)
}

// Local is our own address; invalid for a Unix socket and for a closed one. It
// costs a system call unless it was given to New, or a listener accepted the
// Socket.
func (s *Socket) Local() netip.AddrPort {
	if s.origin != nil {
		return s.origin.local
	}
	if s.remote.kind == absent || s.enter(0) != nil {
		return netip.AddrPort{}
	}
	defer s.leave()
	return localAddr(s.fd)
}

// RemoteAddr and LocalAddr complete net.Conn.
func (s *Socket) RemoteAddr() net.Addr { return netAddr(s.Remote()) }

// LocalAddr is Local as a net.Addr.
func (s *Socket) LocalAddr() net.Addr { return netAddr(s.Local()) }

func netAddr(a netip.AddrPort) net.Addr {
	if !a.IsValid() {
		return &net.UnixAddr{Net: "unix"}
	}
	return net.TCPAddrFromAddrPort(a)
}

// Idle reports, without waiting, that the peer has neither sent anything nor
// closed: an idle backend connection for which it is false must not be used
// again, nor does a Read of it say why it has ended. It asks the kernel; Quiet
// may do for less.
func (s *Socket) Idle() bool {
	if s.enter(0) != nil {
		return false
	}
	defer s.leave()
	if len(s.ahead) > 0 {
		return false
	}
	s.in.seen()
	if nothing(s.fd) {
		return true
	}
	s.in.more()
	return false
}

// look asks the kernel whether there is something to read.
func (s *Socket) look() bool {
	s.in.seen()
	if ready(s.fd, unix.POLLIN|unix.POLLRDHUP) == 0 {
		return false
	}
	s.in.more()
	return true
}

// Quiet is Idle as far as the loop knows, which costs no system call: an event
// of the last moment, that the loop was not told yet, is not seen. A Socket
// that has not waited yet asks the kernel.
func (s *Socket) Quiet() bool {
	if s.state.Load()&(joined|closed|thorough) == joined && s.in.news.Load() == quiet && len(s.ahead) == 0 {
		return true
	}
	return s.Idle()
}

// Pending reports whether a Read may find something without waiting: false is
// certain but for an event of the last moment, true is not.
func (s *Socket) Pending() bool {
	return s.state.Load()&joined == 0 || s.in.news.Load() == fresh || len(s.ahead) > 0
}
