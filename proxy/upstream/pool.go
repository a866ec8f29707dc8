package upstream

import (
	"crypto/tls"
	"sync"
	"sync/atomic"

	"usher/proxy/message"
	"usher/proxy/upstream/names"
)

// Pool is a site's backends with their connections. It is safe for concurrent
// use. The owner retires it.
//
// There may be very many pools of which few have work: one that has nothing to
// follow makes its backends when it is asked for them first.
type Pool struct {
	key       key
	spec      *Spec // without Addresses: other pools may have the same
	addresses []Address
	network   *network
	tls       *tls.Config // nil: plain
	planned   uint64      // the newest plan that has the pool; of whoever plans

	roster atomic.Pointer[roster] // nil: nobody asked yet
	queue  *queue                 // nil when no backend has a limit to wait for
	turn   atomic.Uint64          // of RoundRobin
	budget budget
	bell   bell // rung when a request that is held may succeed
	// private is set when connections carry one client's identity: always
	// with a PROXY header or the client's address, and from the first
	// WWW-Authenticate: Negotiate or NTLM on.
	private atomic.Bool
	retired atomic.Bool

	mu     sync.Mutex
	closed bool    // mu; nothing changes any more
	follow *follow // mu; nil until there is a roster
}

// follow is where the backends of a pool come from.
type follow struct {
	sources []*source
	ends    []func() // of subscriptions
}

func newPool(n *network, k key, spec *Spec, addresses []Address) (*Pool, error) {
	config, err := spec.tlsConfig()
	if err != nil {
		return nil, err
	}
	p := &Pool{key: k, spec: spec, addresses: addresses, network: n, tls: config}
	p.private.Store(spec.perClient())
	p.budget.init()
	if hasLimit(addresses) {
		p.queue = newQueue(p)
	}
	for i := range addresses {
		if !addresses[i].passive() {
			p.open()
			break
		}
	}
	return p, nil
}

// Retire closes what is idle and lets nothing be pooled any more: no site has
// the pool. Its names and its health are not followed any more. Exchanges
// under way go on.
func (p *Pool) Retire() {
	p.network.forget(p)
	p.retired.Store(true)
	p.mu.Lock()
	p.closed = true
	var ends []func()
	if p.follow != nil {
		ends, p.follow.ends = p.follow.ends, nil
	}
	p.mu.Unlock()
	for _, end := range ends {
		end()
	}
	for _, b := range p.Used() {
		b.close()
	}
}

// Backends are those of the present addresses, in their order. A name without
// an address has one that stands for it.
func (p *Pool) Backends() []*Backend {
	if r := p.roster.Load(); r != nil {
		return r.backends
	}
	return p.open().backends
}

// Used are the Backends of a pool that had to make them, else none.
func (p *Pool) Used() []*Backend {
	if r := p.roster.Load(); r != nil {
		return r.backends
	}
	return nil
}

// Look is Backends for those who only look: a pool that was never used stays
// so, and what it returns is then forgotten.
func (p *Pool) Look() []*Backend {
	if r := p.roster.Load(); r != nil {
		return r.backends
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.roster.Load(); r != nil {
		return r.backends
	}
	all := make([]*Backend, len(p.addresses))
	for i := range all {
		a := &p.addresses[i]
		all[i] = p.newBackend(&source{address: a, text: a.String()}, names.Endpoint{}, false, false)
	}
	return all
}

// changed is told of what may help a request that waits.
func (p *Pool) changed() {
	p.bell.ring()
	if p.queue != nil {
		p.queue.look()
	}
}

// side tells who is at fault for an error of a connection to a VM.
func side(err error) message.Side {
	if e, ok := err.(*message.Error); ok {
		return e.Side
	}
	return message.VMSide
}

func clientGone() *message.Error {
	return &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
}
