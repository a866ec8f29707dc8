package upstream

import (
	"context"
	"errors"
	"slices"
	"time"

	"usher/proxy/socket"
)

// stagger is how long a connection may take before another backend is tried as
// well (RFC 8305 section 5): where a link was cut no refusal comes, and a SYN
// that was lost is repeated only after a second.
const stagger = 250 * time.Millisecond

var errSlow = errors.New("another backend was faster by a quarter of a second")

// reach opens a connection to a backend that was entered, or to one that
// answers sooner. When it fails all of them have been left.
func (p *Pool) reach(ctx context.Context, b *Backend, w *wish, o opener) (*conn, *failure) {
	if len(p.Backends()) > 1 {
		return p.race(ctx, b, *w, o)
	}
	c, err := o.open(ctx, b)
	if err != nil {
		return nil, p.unreached(ctx, b, err)
	}
	b.connected()
	return c, nil
}

// rival is how the attempt went that began later.
type rival struct {
	c *conn
	f *failure
}

// race opens a connection to b and, when that takes long, to the next one. The
// slower one is given up.
func (p *Pool) race(ctx context.Context, b *Backend, w wish, o opener) (*conn, *failure) {
	first, stopFirst := context.WithCancel(ctx)
	defer stopFirst()
	second, stopSecond := context.WithCancel(ctx)
	defer stopSecond()
	w.tried = append(slices.Clip(w.tried), b)
	rivals := make(chan rival, 1)
	t := time.AfterFunc(stagger, func() {
		c, f := p.alternative(second, w, o)
		if c != nil {
			stopFirst()
		}
		rivals <- rival{c, f}
	})
	c, err := o.open(first, b)
	alone := t.Stop()
	if err == nil {
		b.connected()
		if !alone {
			stopSecond()
			if r := <-rivals; r.c != nil {
				r.c.end()
				r.c.backend.leave()
			}
		}
		return c, nil
	}
	if alone {
		return nil, p.unreached(ctx, b, err)
	}
	r := <-rivals
	if r.c != nil {
		if first.Err() != nil {
			err = dialError(b, errSlow)
		}
		p.unreached(ctx, b, err)
		return r.c, nil
	}
	f := p.unreached(ctx, b, err)
	f.before = r.f
	return nil, f
}

// alternative reaches somebody who was not tried yet, if there is one that
// seems to work.
func (p *Pool) alternative(ctx context.Context, w wish, o opener) (*conn, *failure) {
	w.begin(time.Now())
	b, _ := p.choose(&w)
	if b == nil {
		return nil, nil
	}
	if b.unresolved() || b.unhealthy() {
		b.leave()
		return nil, nil
	}
	return p.reach(ctx, b, &w, o)
}

// unreached leaves a backend that no connection could be opened to.
func (p *Pool) unreached(ctx context.Context, b *Backend, err error) *failure {
	b.leave()
	if ctx.Err() != nil {
		return &failure{err: clientGone(), backend: b}
	}
	if errors.Is(err, errOwn) {
		return &failure{err: err, backend: b}
	}
	if errors.Is(err, socket.ErrOtherFamily) || errors.Is(err, socket.ErrNoTransparency) {
		return &failure{err: err, replay: true, backend: b} // no fault of the VM's
	}
	b.failed(noDial, err)
	if b.source.feed != nil && p.network.Names != nil {
		p.network.Names.Refresh(b.source.address.Host)
	}
	return &failure{err: err, replay: true, backend: b}
}

// connected takes note of a connection that was opened.
func (b *Backend) connected() {
	b.trust.absent.Store(false)
	if b.machine != nil {
		b.machine.Reached()
	}
}
