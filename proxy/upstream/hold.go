package upstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"usher/proxy/message"
)

const (
	firstPause = 20 * time.Millisecond
	lastPause  = 250 * time.Millisecond
	heldAgain  = 5 * time.Second // when to ask a VM again that did not come back in time
)

// watcher tells when a client leaves; see message.Stream.
type watcher interface{ Watch(gone func()) }

// effort is a request or a tunnel that failed once and is tried again.
type effort struct {
	pool    *Pool
	wish    wish
	stream  watcher                        // nil: it cannot be known that the client has left
	browser bool                           // a person waits, who rather sees a page
	rewind  func() bool                    // readies it for another attempt, if that is possible
	try     func(*wish) (*Lease, *failure) // once
	hold    holder
}

// retry goes on with an exchange after a first failure.
func (p *Pool) retry(ctx context.Context, ex *message.Exchange, w wish, f *failure, start time.Time) (*Lease, error) {
	if f == nil {
		return nil, unavailable(errNobody, time.Second) // they left just now
	}
	e := effort{
		pool: p, wish: w, stream: ex.Stream, browser: ex.Interactive(), hold: p.holdFrom(start),
		rewind: func() bool { return rewind(ex) },
		try:    func(w *wish) (*Lease, *failure) { return p.attempt(ctx, ex, w) },
	}
	return e.persist(ctx, f)
}

var (
	errNobody  = errors.New("no backend is left")
	errBudget  = errors.New("too many requests fail to try this one once more")
	errWaking  = errors.New("the VM is being started")
	errAwaited = errors.New("the VM was started and does not answer yet")
)

// persist tries the other backends, then holds the request and tries all of
// them again, until its time is over.
func (e *effort) persist(ctx context.Context, f *failure) (*Lease, error) {
	p, h := e.pool, &e.hold
	for {
		if !f.replay || !e.rewind() {
			return nil, f.err
		}
		if !h.begun {
			h.until = h.until.Add(f.waited) // the hold is for VMs that are away
		}
		e.note(f)
		if h.over() {
			return nil, h.verdict(ctx, e, f.err)
		}
		e.wish.begin(time.Now())
		if p.left(&e.wish) {
			if !h.begun && !f.idle && !p.budget.spend(time.Now()) {
				return nil, exhausted(f.err)
			}
			f.backend.counted().retries.Add(1)
			l, next := e.try(&e.wish)
			if l != nil {
				return l, nil
			}
			if next != nil {
				f = next
				continue
			}
		}
		// Every backend failed once: hold the request.
		e.wish.tried = e.wish.tried[:0]
		e.wake()
		if !h.wait(ctx, e.stream, p.bell.heard()) {
			return nil, h.verdict(ctx, e, f.err)
		}
		e.wish.begin(time.Now())
		l, next := e.try(&e.wish)
		if l != nil {
			return l, nil
		}
		if next != nil {
			f = next
		}
	}
}

// note remembers what a failure says: who was tried, and whether a VM is being
// started.
func (e *effort) note(f *failure) {
	for ; f != nil; f = f.before {
		if f.backend != nil {
			e.wish.tried = append(e.wish.tried, f.backend)
		}
		if !f.starting.IsZero() {
			e.hold.wakes(f.starting, e.browser)
		}
	}
}

// exhausted is the failure of a request that is not tried again because of the
// others.
func exhausted(err error) error {
	var e *message.Error
	if !errors.As(err, &e) {
		return err
	}
	last := *e
	last.Err = fmt.Errorf("%w (%v)", e.Err, errBudget)
	return &last
}

// holder paces the attempts of a request that is held. No attempt begins after
// until, so that all of them end within hold and one connect timeout.
type holder struct {
	until  time.Time
	pause  time.Duration
	held   bool  // the site holds requests at all
	begun  bool  // it has waited
	waking bool  // for a VM that is being started
	asleep error // why a VM could not be started
	gone   bool
}

// holdFrom is the patience of a request that arrived at start. Even one that
// is not held has time to try another backend.
func (p *Pool) holdFrom(start time.Time) holder {
	return holder{until: start.Add(max(p.spec.Hold, time.Second)), pause: firstPause, held: p.spec.Hold > 0}
}

func (h *holder) over() bool { return !time.Now().Before(h.until) }

// wakes has the request wait for a VM that is being started. A browser is told
// so after the usual time.
func (h *holder) wakes(until time.Time, browser bool) {
	h.waking = true
	if !browser {
		h.held = true
		if until.After(h.until) {
			h.until = until
		}
	}
}

// wait pauses before the next attempt, or until something has changed, and
// reports false when the time to hold is over or the client has gone.
func (h *holder) wait(ctx context.Context, stream watcher, changed <-chan struct{}) bool {
	left := time.Until(h.until)
	if left <= 0 || !h.held {
		return false
	}
	gone := make(chan struct{})
	if stream != nil {
		stream.Watch(func() { close(gone) })
		defer stream.Watch(nil)
	}
	h.begun = true
	t := time.NewTimer(min(h.pause, left))
	defer t.Stop()
	h.pause = min(h.pause*2, lastPause)
	select {
	case <-t.C:
		return true
	case <-changed:
		return true
	case <-gone:
		h.gone = true
	case <-ctx.Done():
	}
	return false
}

// verdict is the error of a request that was held in vain.
func (h *holder) verdict(ctx context.Context, e *effort, last error) error {
	switch {
	case h.gone || ctx.Err() != nil:
		return clientGone()
	case h.waking && e.browser:
		return &message.Error{Side: message.VMSide, Status: 503, Replay: true, RetryAfter: 2 * time.Second, Starting: true, Err: errWaking}
	case h.waking && h.asleep == nil:
		return &message.Error{Side: message.VMSide, Status: 503, Replay: true, RetryAfter: 10 * time.Second, Err: errAwaited}
	case h.asleep != nil:
		return &message.Error{Side: message.VMSide, Status: 503, Replay: true, RetryAfter: 30 * time.Second, Err: fmt.Errorf("start the VM: %w", h.asleep)}
	}
	var m *message.Error
	if !errors.As(last, &m) || m.RetryAfter != 0 {
		return last
	}
	later := *m
	later.RetryAfter = heldAgain
	return &later
}
