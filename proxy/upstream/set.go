package upstream

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"usher/proxy/socket"
)

const (
	idleLimit   = 60 * time.Second // of a connection without an exchange
	idlePerSite = 512              // connections kept for each backend
)

// Set is the pools of one generation. It is never changed once planned.
type Set struct {
	pools   map[string]*Pool
	network *network
}

// network is how pools reach their backends. All generations share it; a pool
// that knew its Set would keep a whole generation from being collected.
type network struct {
	names *names
	dial  func(ctx context.Context, network, address string) (*socket.Socket, error)
}

// NewSet makes an empty set.
func NewSet(d Dialer) *Set {
	if d.Dial == nil {
		d.Dial = socket.Dial
	}
	if d.Lookup == nil {
		d.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	n := &network{names: &names{lookup: d.Lookup, known: map[string]*name{}}, dial: d.Dial}
	return &Set{pools: map[string]*Pool{}, network: n}
}

// Plan collects the pools of the next generation. It changes nothing of the
// present one and is used by one goroutine.
type Plan struct{ old, next *Set }

// Plan begins the next generation.
func (s *Set) Plan() *Plan {
	return &Plan{s, &Set{pools: make(map[string]*Pool, len(s.pools)), network: s.network}}
}

// Pool returns the pool of a Spec: the present one if there is an equal Spec,
// else a new one. It fails when the TLS trust cannot be read.
func (p *Plan) Pool(spec Spec) (*Pool, error) {
	key := spec.key()
	if pool := p.next.pools[key]; pool != nil {
		return pool, nil
	}
	pool := p.old.pools[key]
	if pool == nil {
		var err error
		if pool, err = newPool(p.next.network, key, spec); err != nil {
			return nil, err
		}
	}
	p.next.pools[key] = pool
	return pool, nil
}

// Keep takes a pool of the present generation over as it is.
func (p *Plan) Keep(pool *Pool) { p.next.pools[pool.key] = pool }

// Done is the planned set and the pools that are not in it any more; the
// caller retires those once the next generation is published.
func (p *Plan) Done() (next *Set, dropped []*Pool) {
	for key, pool := range p.old.pools {
		if p.next.pools[key] != pool {
			dropped = append(dropped, pool)
		}
	}
	return p.next, dropped
}

// Reap closes connections that have been idle for a minute. The owner of the
// set calls it now and then.
func (s *Set) Reap(now time.Time) {
	for _, p := range s.pools {
		for _, b := range p.backends {
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

// names resolves the DNS names of backends. An answer serves for 30 s; after
// that it goes on serving while one look-up in the background replaces it, and
// a failing resolver keeps the last answer.
type names struct {
	lookup func(context.Context, string) ([]netip.Addr, error)
	mu     sync.Mutex
	known  map[string]*name
}

type name struct {
	mu      sync.Mutex
	addrs   []netip.Addr
	until   time.Time
	running chan struct{} // closed when the look-up under way has ended; nil when none is
	err     error
}

const nameTTL = 30 * time.Second

// resolve returns the addresses of an IP literal or a name. It waits only for
// the first answer.
func (n *names) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	n.mu.Lock()
	e := n.known[host]
	if e == nil {
		e = &name{}
		n.known[host] = e
	}
	n.mu.Unlock()
	return e.get(ctx, func(ctx context.Context) ([]netip.Addr, error) { return n.lookup(ctx, host) })
}

func (e *name) get(ctx context.Context, lookup func(context.Context) ([]netip.Addr, error)) ([]netip.Addr, error) {
	e.mu.Lock()
	if e.running == nil && time.Now().After(e.until) {
		e.running = make(chan struct{})
		go e.refresh(lookup)
	}
	addrs, running := e.addrs, e.running
	e.mu.Unlock()
	if addrs != nil {
		return addrs, nil
	}
	select {
	case <-running:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.addrs, e.err
}

// refresh is one bounded look-up; whoever waits for the first answer waits on
// e.running.
func (e *name) refresh(lookup func(context.Context) ([]netip.Addr, error)) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	addrs, err := lookup(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil && len(addrs) > 0 {
		e.addrs, e.err, e.until = addrs, nil, time.Now().Add(nameTTL)
	} else {
		e.err, e.until = err, time.Now().Add(time.Second)
	}
	close(e.running)
	e.running = nil
}

// expire makes the next dial look the name up again.
func (n *names) expire(host string) {
	n.mu.Lock()
	e := n.known[host]
	n.mu.Unlock()
	if e != nil {
		e.mu.Lock()
		e.until = time.Time{}
		e.mu.Unlock()
	}
}
