package upstream

import (
	"context"
	"time"

	"usher/proxy/message"
)

// Dial opens a connection for a tunnel, with the same patience. want is its
// affinity; zero leaves it to the pool's method. stream, which may be nil, says
// when the client leaves while the tunnel is held. The caller closes the socket
// and then calls Done.
func (p *Pool) Dial(ctx context.Context, client *message.Client, want Affinity, stream watcher) (*Lease, error) {
	start := time.Now()
	p.budget.earn()
	w := wish{affinity: want, again: true, now: start.UnixNano()}
	if want == 0 {
		w.affinity = p.keyOf(client)
	}
	l, f := p.dialOnce(ctx, client, &w, stream)
	if l != nil {
		return l, nil
	}
	if f == nil {
		return nil, unavailable(errNobody, time.Second)
	}
	return p.redial(ctx, client, w, f, stream, start)
}

// redial goes on after a first failure.
func (p *Pool) redial(ctx context.Context, client *message.Client, w wish, f *failure, stream watcher, start time.Time) (*Lease, error) {
	e := effort{
		pool: p, wish: w, stream: stream, hold: p.holdFrom(start),
		rewind: func() bool { return true },
		try:    func(w *wish) (*Lease, *failure) { return p.dialOnce(ctx, client, w, stream) },
	}
	return e.persist(ctx, f)
}

// dialOnce is one try on one backend that was not tried yet.
func (p *Pool) dialOnce(ctx context.Context, client *message.Client, w *wish, stream watcher) (*Lease, *failure) {
	b, none := p.assign(ctx, stream, w)
	if none != nil {
		return nil, &failure{err: none}
	}
	if b == nil {
		return nil, nil
	}
	if f := b.asleep(); f != nil {
		return nil, f
	}
	c, f := p.reach(ctx, b, w, opener{pool: p, client: client, tunnel: true})
	if f != nil {
		return nil, f
	}
	c.backend.reached()
	return &Lease{pool: p, backend: c.backend, conn: c, client: client}, nil
}
