package upstream

import (
	"context"
	"errors"
	"io"
	"syscall"
	"time"

	"usher/proxy/message"
)

// RoundTrip sends the exchange to a backend and returns at the final response
// head, or the 101; 1xx are passed on. The caller relays the body and then
// releases the lease. What fails is tried again as the contract allows: on
// another backend, or held for a backend that restarts or is being started.
// want is the backend's affinity; zero leaves it to the pool's method. The
// error is a *message.Error that says what to answer, or a fault of the site.
func (p *Pool) RoundTrip(ctx context.Context, ex *message.Exchange, want Affinity) (*Lease, error) {
	start := time.Now()
	p.budget.earn()
	p.keep(ex)
	w := wish{affinity: want, again: ex.Request.Body == nil && idempotent(ex.Request.Method)}
	w.begin(start)
	if want == 0 && p.spec.Balance.Method >= IPHash {
		w.affinity = p.Key(ex)
	}
	if p.spec.Sticky != nil {
		w.sticky = p.visitor(ex)
	}
	l, f := p.attempt(ctx, ex, &w)
	if l != nil {
		return l, nil
	}
	return p.retry(ctx, ex, w, f, start)
}

// attempt is one try on one backend that was not tried yet. Neither a lease
// nor a failure means that all were.
func (p *Pool) attempt(ctx context.Context, ex *message.Exchange, w *wish) (*Lease, *failure) {
	b, none := p.assign(ctx, ex.Stream, w)
	if none != nil {
		return nil, &failure{err: none}
	}
	if b == nil {
		return nil, nil
	}
	if f := b.asleep(); f != nil {
		return nil, f
	}
	c, f := p.acquire(ctx, b, w, opener{pool: p, client: ex.Client, name: p.nameFor(ex)})
	for f == nil {
		b = c.backend
		ex.Trace.Backend = b.text
		ex.Trace.Attempts++
		if !c.reused {
			w.begin(time.Now()) // to open it took its time
		}
		c.began, ex.Trace.Tried = w.start, w.start
		if f = p.exchange(ctx, ex, c); f == nil {
			took := time.Since(c.began)
			now := c.began.Add(took)
			ex.Trace.Head = now.Sub(ex.Trace.Start)
			b.answered(ex.Response.Status, now, took)
			p.noteIdentity(&ex.Response)
			l := &c.lease
			l.pool, l.backend, l.conn, l.client, l.known = p, b, c, ex.Client, b == w.sticky
			return l, nil
		}
		c.end()
		f.backend, f.waited = b, time.Since(c.began)
		if !c.reused || f.aborted || !f.replay || !rewind(ex) {
			b.leave()
			if side(f.err) == message.VMSide && !f.aborted {
				b.failed(brokeOff, f.err)
			}
			return nil, f
		}
		// The VM closed a connection that it had kept open: no fault of
		// anybody's. A new one tells how the VM is.
		c, f = p.reach(ctx, b, w, opener{pool: p, client: ex.Client, name: p.nameFor(ex)})
	}
	ex.Trace.Backend = f.backend.text
	return nil, f
}

// exchange sends the request on a connection and waits for the response head
// and, where that costs nothing, the whole of a small response.
func (p *Pool) exchange(ctx context.Context, ex *message.Exchange, c *conn) *failure {
	b := c.backend
	elsewhere := b.health != nil && ex.Request.Upgrade == nil && idempotent(ex.Request.Method)
	if elsewhere {
		b.await(c)
	}
	err := c.vm.RoundTrip(ctx, ex, p.spec.ResponseHead)
	if elsewhere && b.ceased(c) && (err == nil || side(err) == message.VMSide) {
		return &failure{err: &message.Error{Side: message.VMSide, Status: 502, Err: errTurned}, replay: true, aborted: true}
	}
	if err != nil {
		return p.judge(c, ex, err)
	}
	length := ex.Response.Length
	if err = c.readEarly(ex); err != nil {
		return &failure{err: err, replay: side(err) == message.VMSide && (length >= 0 || cut(err))}
	}
	return nil
}

var errTurned = errors.New("the VM said nothing and its checks began to fail")

// acquire gets a connection for an exchange: this client's own, an idle one,
// or a new one, which may be to another backend.
func (p *Pool) acquire(ctx context.Context, b *Backend, w *wish, o opener) (*conn, *failure) {
	if p.spec.HTTP2 {
		if !p.spec.perClient() {
			if c := b.sharedCall(o.name); c != nil {
				return c, nil
			}
		}
		return p.reach(ctx, b, w, o)
	}
	if p.private.Load() {
		if c, ok := o.client.Detach(b).(*conn); ok {
			if c.serverName == o.name && c.h1.Idle() {
				return c, nil
			}
			c.vm.Close()
		}
	}
	if !p.spec.perClient() {
		if c := b.take(o.name); c != nil {
			return c, nil
		}
	}
	return p.reach(ctx, b, w, o)
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
	err      error
	replay   bool
	aborted  bool          // by the checks, which have said all of the backend
	idle     bool          // nothing was tried: the backend is being started, or has no address
	starting time.Time     // until when it is worth waiting for the VM that is being started
	waited   time.Duration // on a connection
	backend  *Backend
	before   *failure // of another backend in the same attempt
}

// judge decides whether a request that failed on a connection may be sent
// again: nothing of it was processed, or it is idempotent (RFC 9110 section
// 9.2.2), no answer came that is one, and the body is still in hand.
func (p *Pool) judge(c *conn, ex *message.Exchange, err error) *failure {
	var e *message.Error
	if !errors.As(err, &e) || e.Side != message.VMSide {
		return &failure{err: err}
	}
	safe := ex.Request.Upgrade == nil && idempotent(ex.Request.Method) && e.Status != 504 && (!c.vm.Answered() || cut(err))
	return &failure{err: err, replay: safe || e.Replay}
}

// cut reports a connection that ended, whatever came before; what the VM said
// was not wrong.
func cut(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) || errors.Is(err, syscall.EHOSTUNREACH)
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE":
		return true
	}
	return false
}
