package upstream

import (
	"context"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Attempt is a Dial that has begun. It is the state of one tunnel and not safe
// for concurrent use.
type Attempt struct {
	pool    *Pool
	client  *message.Client
	start   time.Time
	backend *Backend
	fd      int
	err     error // why there is no fd
}

// Begin is Dial as far as that needs no waiting, for a client that has sent
// something already. It reports false when nothing was done, since Dial may
// have to choose, to wait or to send something before: then Dial is to be
// called. If a is not nil, a.Finish is to be called, and nothing was sent.
// Otherwise fd is a connection to the VM, which the caller closes before he
// calls Done of the lease, and so many bytes of first were sent.
func (p *Pool) Begin(client *message.Client, first []byte, now time.Time) (lease Lease, fd, sent int, a *Attempt, ok bool) {
	b := p.direct()
	if b == nil || !b.enter() {
		return Lease{}, -1, 0, nil, false
	}
	p.budget.earn()
	fd, sent, err := p.network.Begin(b.addr, first)
	if err != nil {
		a = &Attempt{pool: p, client: client, start: now, backend: b, fd: fd}
		if err != socket.ErrWait {
			a.err = err
		}
		return Lease{}, -1, 0, a, true
	}
	b.connected()
	b.reached()
	return Lease{pool: p, backend: b, client: client}, fd, sent, nil, true
}

// direct is the one backend that a connection can be tried to at once; nil for
// none.
func (p *Pool) direct() *Backend {
	all := p.Backends()
	if len(all) != 1 || p.network.Begin == nil || p.queue != nil && p.queue.waiting.Load() > 0 {
		return nil
	}
	b := all[0]
	switch {
	case b.network != "tcp" || !b.addr.IsValid() || b.addr.Addr().Zone() != "", p.spec.Transparent || p.spec.ProxyProtocol != "":
		return nil // that is not all there is to do
	case !b.usable() || b.unhealthy() || p.forbids(b):
		return nil
	}
	return b
}

// Finish is the rest of Dial, with its results.
func (a *Attempt) Finish(ctx context.Context, stream watcher) (*Lease, error) {
	p, b := a.pool, a.backend
	s, err := a.wait(ctx)
	if err != nil {
		f := p.unreached(ctx, b, dialError(b, err))
		w := wish{affinity: p.keyOf(a.client), again: true, now: a.start.UnixNano()}
		return p.redial(ctx, a.client, w, f, stream, a.start)
	}
	b.connected()
	b.reached()
	return &Lease{pool: p, backend: b, conn: &conn{backend: b, sock: s}, client: a.client}, nil
}

func (a *Attempt) wait(ctx context.Context) (*socket.Socket, error) {
	if a.err != nil {
		return nil, a.err
	}
	limited, cancel := a.pool.limit(ctx)
	defer cancel()
	return a.pool.network.Finish(limited, a.backend.addr, a.fd)
}
