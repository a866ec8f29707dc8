package upstream

import (
	"crypto/tls"
	"sync"
	"sync/atomic"

	"usher/proxy/message"
)

// Pool is a site's backends with their connections. It is safe for concurrent
// use. The owner retires it.
type Pool struct {
	key     string
	spec    Spec
	network *network
	tls     *tls.Config // nil: plain

	roster atomic.Pointer[roster]
	queue  *queue        // nil when no backend has a limit to wait for
	turn   atomic.Uint64 // of RoundRobin
	budget budget
	bell   bell // rung when a request that is held may succeed
	// private is set when connections carry one client's identity: always
	// with a PROXY header or the client's address, and from the first
	// WWW-Authenticate: Negotiate or NTLM on.
	private atomic.Bool
	retired atomic.Bool

	mu      sync.Mutex
	sources []*source
	ends    []func() // of subscriptions
	closed  bool     // mu; nothing changes any more
}

func newPool(n *network, key string, spec Spec) (*Pool, error) {
	config, err := spec.tlsConfig()
	if err != nil {
		return nil, err
	}
	p := &Pool{key: key, spec: spec, network: n, tls: config}
	p.private.Store(spec.perClient())
	p.budget.init()
	if spec.limited() {
		p.queue = newQueue(p)
	}
	// A feed that changes meanwhile waits for the first roster.
	p.mu.Lock()
	p.sources = make([]*source, 0, len(spec.Addresses))
	for i := range p.spec.Addresses {
		p.sources = append(p.sources, p.watch(&p.spec.Addresses[i]))
	}
	p.mu.Unlock()
	p.rebuild()
	return p, nil
}

// Retire closes what is idle and lets nothing be pooled any more: no site has
// the pool. Its names and its health are not followed any more. Exchanges
// under way go on.
func (p *Pool) Retire() {
	p.retired.Store(true)
	p.mu.Lock()
	ends := p.ends
	p.ends, p.closed = nil, true
	p.mu.Unlock()
	for _, end := range ends {
		end()
	}
	for _, b := range p.Backends() {
		b.close()
	}
}

// Backends are those of the present addresses, in their order. A name without
// an address has one that stands for it.
func (p *Pool) Backends() []*Backend { return p.roster.Load().backends }

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
