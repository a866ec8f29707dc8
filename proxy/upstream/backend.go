package upstream

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/upstream/health"
	"usher/proxy/upstream/names"
)

// Backend is one address of a pool, with everything that is known of it.
type Backend struct {
	pool     *Pool
	source   *source
	endpoint names.Endpoint // of the source's feed
	text     string
	network  string
	target   string         // what is dialed; empty when there is no address
	addr     netip.AddrPort // invalid for a Unix socket
	machine  machine        // nil when the VM has no name
	weight   float64        // 0: no new work
	backup   bool
	most     int64          // exchanges and tunnels; 0: no limit
	gate     *gate          // the limit of its address for all pools; nil: none
	health   *health.Target // nil: not checked
	limit    *limit         // nil: none is sought
	cookie   *cookie        // nil without stickiness

	active atomic.Int64 // exchanges and tunnels
	risen  atomic.Int64 // when it came back, in Unix nanoseconds; 0: long ago
	trust  trust
	pace   pace
	stats  atomic.Pointer[stats] // nil before the first exchange

	mu      sync.Mutex
	retired bool         // nothing is kept any more
	told    health.State // what its machine was told
	idle    []*conn      // the last one used is the last
	waiting []*conn      // for a response head, and may be tried elsewhere

	shared *shared // instead of idle, with HTTP/2; else nil
}

// newBackend makes the backend of an endpoint and has it checked. late says
// that others have been working already, many that it is one of several of the
// same name.
func (p *Pool) newBackend(s *source, e names.Endpoint, late, many bool) *Backend {
	a := s.address
	b := &Backend{
		pool: p, source: s, endpoint: e, text: s.text, network: "tcp", machine: a.machine(),
		weight: float64(max(a.Weight, 0)), backup: a.Backup || e.Backup, most: int64(max(a.MaxConns, 0)),
	}
	if a.Weight == 0 {
		b.weight = 1
	}
	switch {
	case a.Unix != "":
		b.network, b.target = "unix", a.Unix
	case s.feed == nil:
		b.addr = netip.AddrPortFrom(netip.MustParseAddr(a.Host), a.Port)
		b.target = s.text
	default:
		port := a.Port
		if e.Port != 0 {
			port = e.Port
		}
		b.addr = netip.AddrPortFrom(e.Addr, port)
		b.target = b.addr.String()
		b.text = b.target
		b.weight *= float64(max(e.Weight, 1))
	}
	if p.spec.HTTP2 {
		b.shared = &shared{opening: make(chan struct{}, 1)}
	}
	if p.spec.Adaptive {
		b.limit = newLimit()
	}
	if p.spec.Sticky != nil {
		b.cookie = newCookie(p.spec.Sticky, b.text)
	}
	if a.VMConns > 0 {
		b.gate = p.network.join(b, a.VMConns)
	}
	if late {
		b.risen.Store(time.Now().UnixNano())
	}
	b.check(many)
	return b
}

// String is the address as it is dialed, for logs.
func (b *Backend) String() string { return b.text }

// Source is the address as it was configured.
func (b *Backend) Source() string { return b.source.text }

// drained reports whether the operator wants no new work on the VM.
func (b *Backend) drained() bool { return b.machine != nil && b.machine.Drained() }

// unhealthy reports whether checks say that the VM does not work.
func (b *Backend) unhealthy() bool {
	return b.health != nil && b.health.State() == health.Unhealthy
}

// enter counts an exchange or a tunnel in; false when there is no room for it.
// leave follows.
func (b *Backend) enter() bool {
	n := b.active.Add(1)
	if b.most > 0 && n > b.most || b.limit != nil && n > b.limit.now() {
		b.active.Add(-1)
		return false
	}
	if b.gate != nil && !b.gate.enter() {
		b.active.Add(-1)
		return false
	}
	if b.machine != nil {
		b.machine.Begin()
	}
	return true
}

// leave counts it out and lets the next one in that waits.
func (b *Backend) leave() {
	b.active.Add(-1)
	if b.machine != nil {
		b.machine.End()
	}
	if q := b.pool.queue; q != nil {
		q.room(b)
	}
	if b.gate != nil {
		b.gate.leave()
	}
}

// close gives up what a backend holds that is no part of its pool any more.
// Exchanges and tunnels under way go on.
func (b *Backend) close() {
	b.retire()
	b.unwatch()
	if b.gate != nil && !b.pool.keeps(b) {
		b.pool.network.part(b)
	}
	if b.shared != nil {
		b.shared.retire()
	}
}
