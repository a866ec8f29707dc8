package upstream

import (
	"context"
	"net/netip"
	"time"

	"usher/proxy/socket"
	"usher/proxy/upstream/health"
	"usher/proxy/upstream/names"
)

const (
	idleLimit   = 60 * time.Second // of a connection without an exchange
	idlePerSite = 512              // connections kept for each backend
)

// Dialer is how pools reach their backends; what is left out uses the network.
type Dialer struct {
	Dial func(ctx context.Context, network, address string) (*socket.Socket, error)
	// DialFrom dials from the client's own address.
	DialFrom func(ctx context.Context, network, address string, from netip.AddrPort) (*socket.Socket, error)
	// Begin and Finish are Dial in two parts for tunnels, see socket.Dialer;
	// both or none.
	Begin   func(to netip.AddrPort, first []byte) (fd, sent int, err error)
	Finish  func(ctx context.Context, to netip.AddrPort, fd int) (*socket.Socket, error)
	Names   Names           // nil: only addresses work
	Checker *health.Checker // nil: nothing is checked
}

// Names keeps the addresses of DNS names; *names.Resolver does.
type Names interface {
	Watch(host string, srv bool) (feed *names.Feed, release func())
	Refresh(host string)
}

// Set is the pools of one generation. It is never changed once planned.
type Set struct {
	pools   []*Pool
	plan    uint64 // that it comes from
	network *network
}

// NewSet makes an empty set.
func NewSet(d Dialer) *Set {
	if d.Dial == nil {
		d.Dial = socket.Dial
	}
	if d.DialFrom == nil {
		d.DialFrom = socket.DialTransparent
	}
	return &Set{network: &network{Dialer: d, said: map[place]*said{}, gates: map[place]*gate{}, pools: map[key]*Pool{}}}
}

// Plan collects the pools of the next generation. It changes nothing of the
// present one and is used by one goroutine, while no other plan is. It ends
// with Done or Discard.
type Plan struct {
	old, next *Set
	made      []*Pool
	specs     map[string]*Spec // without addresses, by what they are told apart by
	known     map[string]bool  // addresses of the present generation; nil until somebody asks
	buf       print
}

// Plan begins the next generation.
func (s *Set) Plan() *Plan {
	n := s.network
	n.mu.Lock()
	defer n.mu.Unlock()
	n.plans++
	next := &Set{pools: make([]*Pool, 0, len(s.pools)), plan: n.plans, network: n}
	return &Plan{old: s, next: next, specs: make(map[string]*Spec)}
}

// Pool returns the pool of a Spec: the present one if there is an equal Spec,
// else a new one, whose names are looked up and whose health is checked from
// now on. It fails when the TLS trust cannot be read.
func (p *Plan) Pool(spec Spec) (*Pool, error) {
	k, settings := spec.key(p.buf[:0])
	p.buf = settings
	if pool := p.next.network.pool(k); pool != nil && p.has(pool) {
		p.Keep(pool)
		return pool, nil
	}
	addresses := spec.Addresses
	shared := p.specs[string(settings)]
	if shared == nil {
		spec.Addresses = nil
		shared = &spec
		p.specs[string(settings)] = shared
	}
	pool, err := newPool(p.next.network, k, shared, addresses)
	if err != nil {
		return nil, err
	}
	p.next.network.remember(pool)
	p.made = append(p.made, pool)
	p.Keep(pool)
	if shared.SlowStart > 0 && len(p.old.pools) > 0 {
		p.rise(pool)
	}
	return pool, nil
}

// rise has backends start slowly whose addresses nobody had before.
func (p *Plan) rise(pool *Pool) {
	if p.known == nil {
		p.known = make(map[string]bool)
		for _, old := range p.old.pools {
			for i := range old.addresses {
				p.known[old.addresses[i].String()] = true
			}
		}
	}
	now := time.Now().UnixNano()
	for _, b := range pool.Backends() {
		if !p.known[b.source.text] {
			b.risen.Store(now)
		}
	}
}

// has reports whether a pool is of the present generation or of the next.
func (p *Plan) has(pool *Pool) bool {
	return pool.planned == p.old.plan || pool.planned == p.next.plan
}

// Keep takes a pool of the present generation over as it is.
func (p *Plan) Keep(pool *Pool) {
	if pool.planned != p.next.plan {
		pool.planned = p.next.plan
		p.next.pools = append(p.next.pools, pool)
	}
}

// Done is the planned set and the pools that are not in it any more; the
// caller retires those once the next generation is published.
func (p *Plan) Done() (next *Set, dropped []*Pool) {
	for _, pool := range p.old.pools {
		if pool.planned != p.next.plan {
			dropped = append(dropped, pool)
		}
	}
	return p.next, dropped
}

// Discard retires the pools that the plan has made: its generation is not
// published. It may be called after Done.
func (p *Plan) Discard() {
	for _, pool := range p.old.pools {
		pool.planned = p.old.plan
	}
	for _, pool := range p.made {
		pool.Retire()
	}
}

// Reap closes connections that have been idle for a minute. The owner of the
// set calls it now and then.
func (s *Set) Reap(now time.Time) {
	for _, p := range s.pools {
		for _, b := range p.Used() {
			b.reap(now.Add(-idleLimit))
			if b.shared != nil {
				b.shared.reap(now, now.Add(-idleLimit))
			}
		}
	}
}

// Each calls f for every pool.
func (s *Set) Each(f func(*Pool)) {
	for _, p := range s.pools {
		f(p)
	}
}
