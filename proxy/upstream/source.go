package upstream

import (
	"errors"
	"slices"

	"usher/proxy/upstream/names"
)

// source is one Address of a pool and the backends that it stands for now: one
// for an IP address or a Unix socket, any number for a name.
type source struct {
	address *Address // of the Spec
	text    string
	feed    *names.Feed // nil: the address says it all
	now     []*Backend  // Pool.mu
}

// roster is the backends of a pool at one moment. It is never changed.
type roster struct{ backends []*Backend }

// open makes the first roster. A feed that changes meanwhile waits for it.
func (p *Pool) open() *roster {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r := p.roster.Load(); r != nil {
		return r
	}
	p.follow = &follow{sources: make([]*source, 0, len(p.addresses))}
	for i := range p.addresses {
		p.follow.sources = append(p.follow.sources, p.watch(&p.addresses[i]))
	}
	r, _ := p.compose(false)
	if p.closed { // a request of the generation before was late
		for _, b := range r.backends {
			b.close()
		}
	}
	p.roster.Store(r)
	return r
}

// watch makes the source of an address and, for a name, subscribes to it. mu is
// held.
func (p *Pool) watch(a *Address) *source {
	s := &source{address: a, text: a.String()}
	if a.fixed() {
		return s
	}
	s.feed = p.feed(a)
	p.follow.ends = append(p.follow.ends, s.feed.Subscribe(p.rebuild))
	return s
}

// feed is where the addresses of a name or of a discovered VM come from.
func (p *Pool) feed(a *Address) *names.Feed {
	if a.Host == "" && a.VM != nil {
		if f := a.VM.Feed(); f != nil {
			return f
		}
		return failed(errNotFound)
	}
	if p.network.Names == nil {
		return failed(errNoNames)
	}
	f, release := p.network.Names.Watch(a.Host, a.SRV)
	p.follow.ends = append(p.follow.ends, release)
	return f
}

var (
	errNotFound = errors.New("the VM has neither an address nor discovery")
	errNoNames  = errors.New("no resolver")
)

// failed is the feed of what can never be found.
func failed(why error) *names.Feed {
	f := new(names.Feed)
	f.Set(&names.Answer{Err: why})
	return f
}

// rebuild takes the present answers of all sources. A backend whose address
// stays is the same with its state; one whose address is gone keeps nothing.
func (p *Pool) rebuild() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	next, gone := p.compose(true)
	p.roster.Store(next)
	p.mu.Unlock()
	for _, b := range gone {
		b.close()
	}
	p.changed()
}

// compose makes a roster of what the sources stand for now, and says who was in
// the one before and is not in it. late says that the pool works already. mu is
// held.
func (p *Pool) compose(late bool) (next *roster, gone []*Backend) {
	next = &roster{}
	for _, s := range p.follow.sources {
		now := p.backendsOf(s, late)
		for _, b := range s.now {
			if !slices.Contains(now, b) {
				gone = append(gone, b)
			}
		}
		s.now = now
		next.backends = append(next.backends, now...)
	}
	return next, gone
}

// backendsOf is what a source stands for; late says that the pool works
// already. mu is held.
func (p *Pool) backendsOf(s *source, late bool) []*Backend {
	if s.feed == nil {
		if s.now != nil {
			return s.now
		}
		return []*Backend{p.newBackend(s, names.Endpoint{}, late, false)}
	}
	var now []*Backend
	if a := s.feed.Answer(); a != nil {
		for _, e := range a.Endpoints {
			now = append(now, p.keptOrNew(s, e, late, len(a.Endpoints) > 1))
		}
	}
	if now == nil {
		return []*Backend{p.nobody(s)}
	}
	return now
}

// keptOrNew is the backend of an endpoint, a new one also where it has to be
// checked from now on. mu is held.
func (p *Pool) keptOrNew(s *source, e names.Endpoint, late, many bool) *Backend {
	for _, b := range s.now {
		if b.endpoint == e && (b.health != nil || !many || !s.address.IfMany) {
			return b
		}
	}
	return p.newBackend(s, e, late, many)
}

// nobody stands for a name without an answer. mu is held.
func (p *Pool) nobody(s *source) *Backend {
	for _, b := range s.now {
		if b.unresolved() {
			return b
		}
	}
	return &Backend{pool: p, source: s, text: s.text, machine: s.address.machine(), weight: 1}
}

// unresolved reports whether the backend stands for a name without an answer.
func (b *Backend) unresolved() bool { return b.target == "" }

// whyUnresolved is the error of such a name.
func (b *Backend) whyUnresolved() error {
	if a := b.source.feed.Answer(); a != nil && a.Err != nil {
		return a.Err
	}
	return errNoAnswer
}

var errNoAnswer = errors.New("the name has no address yet")
