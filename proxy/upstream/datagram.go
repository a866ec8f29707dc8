package upstream

import (
	"context"
	"net/netip"
	"time"

	"usher/proxy/message"
)

// Assign chooses the backend of a UDP session and opens nothing; the pool's
// Spec has UDP set. A client keeps its backend while that one works, whatever
// its ports, unless the pool counts (LeastConn). Names, drained VMs and VMs
// that have to be started are waited for as in Dial. A VM that seemed to be
// away the last time is started as well, but not waited for: only its answer
// tells that it is back. The caller ends the lease with Done.
func (p *Pool) Assign(ctx context.Context, client netip.Addr) (*Lease, error) {
	start := time.Now()
	p.budget.earn()
	w := wish{again: true, now: start.UnixNano()}
	if p.spec.Balance.Method != LeastConn {
		w.affinity = affinityOfAddr(client)
	}
	l, f := p.assignOnce(ctx, &w)
	if l != nil {
		return l, nil
	}
	if f == nil {
		return nil, unavailable(errNobody, time.Second)
	}
	e := effort{
		pool: p, wish: w, hold: p.holdFrom(start),
		rewind: func() bool { return true },
		try:    func(w *wish) (*Lease, *failure) { return p.assignOnce(ctx, w) },
	}
	return e.persist(ctx, f)
}

func (p *Pool) assignOnce(ctx context.Context, w *wish) (*Lease, *failure) {
	b, none := p.assign(ctx, nil, w)
	if none != nil {
		return nil, &failure{err: none}
	}
	if b == nil {
		return nil, nil
	}
	if f := b.asleep(); f != nil {
		return nil, f
	}
	if p.forbids(b) {
		b.leave()
		return nil, &failure{err: &message.Error{Side: message.VMSide, Status: 502, Err: errOwn}, backend: b}
	}
	if b.trust.absent.Load() && b.machine != nil && b.machine.CanStart() {
		b.machine.Start()
	}
	return &Lease{pool: p, backend: b}, nil
}

// forbids reports whether a backend is usher itself.
func (p *Pool) forbids(b *Backend) bool {
	return p.spec.Forbid != nil && b.addr.IsValid() && p.spec.Forbid.Has(netip.AddrPortFrom(b.addr.Addr().Unmap(), b.addr.Port()))
}

// Addr is where the datagrams of a session go.
func (l *Lease) Addr() netip.AddrPort { return l.backend.addr }

// Answered takes note of the first datagram of the VM's in a UDP session.
func (l *Lease) Answered() {
	l.backend.reached()
	l.backend.connected()
}

// Refused takes note of a UDP session whose VM cannot be reached.
func (l *Lease) Refused(err error) { l.backend.failed(noDial, dialError(l.backend, err)) }
