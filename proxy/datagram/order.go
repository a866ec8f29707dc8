package datagram

import (
	"container/list"
	"net/netip"
)

// The kinds of sessions. A fresh one may be nothing but one datagram with a
// forged source; in an assured one the client has spoken after the VM did. When
// there are too many sessions, those go first that are fresh.
const (
	fresh = iota
	assured
)

// order is sessions by their last datagram, the longest silent one first.
type order struct{ list.List }

// place is where a session stands.
type place struct {
	kind     int
	inAll    *list.Element
	inClient *list.Element
	client   netip.Addr
}

// clientOf is whom a limit holds for: an IPv4 address, or the /64 that one
// IPv6 client has all addresses of.
func clientOf(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return ip
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return ip
	}
	return p.Addr()
}

// admit makes room for a session of a client and puts it in. It reports false
// when there is none. The caller holds mu.
func (r *Relay) admit(s *Session) bool {
	if r.opening >= r.limits.Opening || r.draining || r.stopped {
		return false
	}
	s.place.client = clientOf(s.client.Addr())
	own := r.clients[s.place.client]
	switch {
	case own != nil && own.Len() >= r.limits.PerClient:
		own.oldest().evict()
	case r.count() >= r.limits.Sessions && r.orders[fresh].Len() > 0:
		r.orders[fresh].oldest().evict()
	case r.count() >= r.limits.Sessions:
		r.orders[assured].oldest().evict()
	}
	if own = r.clients[s.place.client]; own == nil { // evict may have removed it
		own = new(order)
		r.clients[s.place.client] = own
	}
	s.place.inAll, s.place.inClient = r.orders[fresh].PushBack(s), own.PushBack(s)
	return true
}

func (o *order) oldest() *Session { return o.Front().Value.(*Session) }

// used notes that a session is the last one that had a datagram.
func (r *Relay) used(s *Session) {
	r.orders[s.place.kind].MoveToBack(s.place.inAll)
	r.clients[s.place.client].MoveToBack(s.place.inClient)
}

// assure notes that both sides take part in a session.
func (r *Relay) assure(s *Session) {
	r.orders[fresh].Remove(s.place.inAll)
	s.place.kind, s.place.inAll = assured, r.orders[assured].PushBack(s)
}

// leave takes a session out.
func (r *Relay) leave(s *Session) {
	r.orders[s.place.kind].Remove(s.place.inAll)
	own := r.clients[s.place.client]
	own.Remove(s.place.inClient)
	if own.Len() == 0 {
		delete(r.clients, s.place.client)
	}
}
