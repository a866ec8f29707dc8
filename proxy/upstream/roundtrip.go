package upstream

import (
	"context"
	"errors"
	"time"

	"usher/proxy/message"
)

// RoundTrip sends the exchange to a backend and returns at the final response
// head, or the 101; 1xx are passed on. The caller relays the body and then
// releases the lease. What fails is tried again as the contract allows: on
// another backend, or held for a backend that restarts. The error is a
// *message.Error that says what to answer.
func (p *Pool) RoundTrip(ctx context.Context, ex *message.Exchange, want Affinity) (*Lease, error) {
	start := time.Now()
	l, f := p.attempt(ctx, ex, want, nil)
	if f == nil {
		return l, nil
	}
	return p.retry(ctx, ex, want, f, p.holdFrom(start))
}

// attempt is one try on one backend that was not tried yet.
func (p *Pool) attempt(ctx context.Context, ex *message.Exchange, want Affinity, tried []*Backend) (*Lease, *failure) {
	b := p.pick(want, tried)
	if b == nil {
		return nil, nil
	}
	b.active.Add(1)
	c, reused, err := p.acquire(ctx, b, ex)
	for err == nil {
		ex.Trace.Backend = b.text
		ex.Trace.Attempts++
		if err = c.vm.RoundTrip(ctx, ex, p.spec.ResponseHead); err == nil {
			b.worked()
			p.noteIdentity(&ex.Response)
			c.lease = Lease{pool: p, backend: b, conn: c, client: ex.Client}
			return &c.lease, nil
		}
		f := p.judge(c, ex, err)
		c.vm.Close()
		c.vm.Finish()
		if !reused || !f.replay || side(err) != message.VMSide || !rewind(ex) {
			b.active.Add(-1)
			return nil, f.at(b)
		}
		// The VM closed a connection that it had kept open: no fault of
		// anybody's. A new one tells how the VM is.
		reused = false
		c, err = p.fresh(ctx, b, ex)
	}
	b.active.Add(-1)
	ex.Trace.Backend = b.text
	return nil, (&failure{err: err, replay: true}).at(b)
}

// acquire gets a connection for an exchange: this client's own, an idle one,
// or a new one.
func (p *Pool) acquire(ctx context.Context, b *Backend, ex *message.Exchange) (c *conn, reused bool, err error) {
	name := p.nameFor(ex)
	if p.spec.HTTP2 {
		return p.call(ctx, b, ex.Client, name)
	}
	if p.private.Load() {
		if c, ok := ex.Client.Detach(b).(*conn); ok {
			if c.serverName == name && c.h1.Idle() {
				return c, true, nil
			}
			c.vm.Close()
		}
	}
	if p.spec.ProxyProtocol == "" {
		if c := b.take(name); c != nil {
			return c, true, nil
		}
	}
	c, err = p.open(ctx, b, ex.Client, name)
	return c, false, err
}

// fresh gets another connection after one that had been kept failed: a new
// one, unless others share theirs.
func (p *Pool) fresh(ctx context.Context, b *Backend, ex *message.Exchange) (c *conn, err error) {
	if p.spec.HTTP2 {
		c, _, err = p.call(ctx, b, ex.Client, p.nameFor(ex))
		return c, err
	}
	return p.open(ctx, b, ex.Client, p.nameFor(ex))
}

// nameFor is the TLS server name of a connection for an exchange.
func (p *Pool) nameFor(ex *message.Exchange) string {
	switch {
	case p.tls == nil:
		return ""
	case p.spec.TLS.ServerName != "":
		return p.spec.TLS.ServerName
	default:
		return string(ex.Host)
	}
}

// failure is why an attempt failed and whether it may be tried again.
type failure struct {
	err     error
	replay  bool
	backend *Backend
}

func (f *failure) at(b *Backend) *failure {
	f.backend = b
	if side(f.err) == message.VMSide {
		b.failed(f.err)
	}
	return f
}

// judge decides whether a request that failed on a connection may be sent
// again: nothing of it was processed, or it is idempotent (RFC 9110 section
// 9.2.2), no byte of an answer came, and the body is still in hand.
func (p *Pool) judge(c *conn, ex *message.Exchange, err error) *failure {
	var e *message.Error
	if !errors.As(err, &e) || e.Side != message.VMSide {
		return &failure{err: err}
	}
	safe := e.Replay || idempotent(ex.Request.Method) && !c.vm.Answered() && e.Status != 504
	return &failure{err: err, replay: safe && ex.Request.Upgrade == nil || e.Replay}
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}

// retry goes on after a first failure, until hold has passed.
func (p *Pool) retry(ctx context.Context, ex *message.Exchange, want Affinity, f *failure, h holder) (*Lease, error) {
	var tried []*Backend
	for {
		if !f.replay || h.over() || !rewind(ex) {
			return nil, f.err
		}
		tried = append(tried, f.backend)
		l, next := p.attempt(ctx, ex, want, tried)
		if l != nil {
			return l, nil
		}
		if next != nil {
			f = next
			continue
		}
		// Every backend failed once: hold the request.
		tried = tried[:0]
		if !h.wait(ctx, ex.Stream) {
			return nil, h.verdict(ctx, f.err)
		}
		if l, f = p.attempt(ctx, ex, want, nil); l != nil {
			return l, nil
		}
	}
}

const (
	firstPause = 20 * time.Millisecond
	lastPause  = 250 * time.Millisecond
)

// holder paces the attempts of a request that is held. No attempt begins after
// until, so that all of them end within hold and one connect timeout.
type holder struct {
	until time.Time
	pause time.Duration
	held  bool // the site holds requests at all
	gone  bool
}

// holdFrom is the patience of a request that arrived at start. Even one that
// is not held has time to try another backend.
func (p *Pool) holdFrom(start time.Time) holder {
	return holder{until: start.Add(max(p.spec.Hold, time.Second)), pause: firstPause, held: p.spec.Hold > 0}
}

func (h *holder) over() bool { return !time.Now().Before(h.until) }

// wait pauses before the next attempt and reports false when the time to hold
// is over or the client has gone. stream may be nil.
func (h *holder) wait(ctx context.Context, stream message.Stream) bool {
	left := time.Until(h.until)
	if left <= 0 || !h.held {
		return false
	}
	gone := make(chan struct{})
	if stream != nil {
		stream.Watch(func() { close(gone) })
		defer stream.Watch(nil)
	}
	t := time.NewTimer(min(h.pause, left))
	defer t.Stop()
	h.pause = min(h.pause*2, lastPause)
	select {
	case <-t.C:
		return true
	case <-gone:
		h.gone = true
	case <-ctx.Done():
	}
	return false
}

// verdict is the error of a request that was held in vain.
func (h *holder) verdict(ctx context.Context, last error) error {
	if h.gone || ctx.Err() != nil {
		return &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
	}
	return last
}

// Dial opens a connection for a tunnel, with the same patience. The caller
// closes the socket and then calls Done.
func (p *Pool) Dial(ctx context.Context, client *message.Client, want Affinity) (*Lease, error) {
	h := p.holdFrom(time.Now())
	var tried []*Backend
	var last error
	for {
		if last != nil && h.over() {
			return nil, last
		}
		b := p.pick(want, tried)
		if b == nil {
			if tried = tried[:0]; !h.wait(ctx, nil) {
				return nil, h.verdict(ctx, last)
			}
			continue
		}
		b.active.Add(1)
		limited, cancel := p.limit(ctx)
		s, err := p.connect(limited, b, client)
		cancel()
		if err == nil {
			b.worked()
			return &Lease{pool: p, backend: b, socket: s, client: client}, nil
		}
		b.active.Add(-1)
		b.failed(err)
		tried, last = append(tried, b), err
		if errors.Is(err, errOwn) {
			return nil, err
		}
	}
}
