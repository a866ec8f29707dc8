package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/message"
)

// queue is the requests that wait for backends at their limits, first come
// first served. The lock is taken only while somebody waits.
type queue struct {
	pool    *Pool
	size    int
	timeout time.Duration
	waiting atomic.Int32
	mu      sync.Mutex
	list    []*waiter  // mu
	gates   []*gate    // mu; that know of the waiting
	parting []*Backend // mu; of a retired pool, which leave their gates with the last waiter
}

// waiter is one request.
type waiter struct {
	wish wish
	got  chan *Backend // room for one, entered
}

func newQueue(p *Pool) *queue {
	return &queue{pool: p, size: p.spec.Queue, timeout: p.spec.QueueTimeout}
}

var (
	errQueueFull    = errors.New("all backends are at their limits, and so is the queue")
	errQueueTimeout = errors.New("all backends are at their limits")
	errShed         = errors.New("all backends are as busy as their latency allows")
	errDrained      = errors.New("every backend is drained")
)

// drainedAgain is when to ask a site again that is down for maintenance.
const drainedAgain = 10 * time.Second

// unavailable is the answer to a request that no backend is to have.
func unavailable(why error, again time.Duration) *message.Error {
	return &message.Error{Side: message.UsherSide, Status: 503, RetryAfter: again, Err: why}
}

// assign enters a backend for a request, if need be after waiting in the queue.
// Neither a backend nor an error means that all were tried. stream may be nil.
func (p *Pool) assign(ctx context.Context, stream watcher, w *wish) (*Backend, *message.Error) {
	if q := p.queue; q != nil && q.waiting.Load() > 0 {
		return q.wait(ctx, stream, w)
	}
	b, why := p.choose(w)
	switch why {
	case drained:
		return nil, unavailable(errDrained, drainedAgain)
	case occupied:
		if p.queue == nil {
			return nil, unavailable(errShed, time.Second)
		}
		return p.queue.wait(ctx, stream, w)
	}
	return b, nil
}

// wait queues a request.
func (q *queue) wait(ctx context.Context, stream watcher, w *wish) (*Backend, *message.Error) {
	me, err := q.join(w)
	if err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	if stream != nil {
		stream.Watch(func() { close(gone) })
		defer stream.Watch(nil)
	}
	var over <-chan time.Time
	if q.timeout > 0 {
		t := time.NewTimer(q.timeout)
		defer t.Stop()
		over = t.C
	}
	defer func() { w.begin(time.Now()) }()
	select {
	case b := <-me.got:
		return q.served(b)
	case <-over:
		err = unavailable(errQueueTimeout, max(q.timeout, time.Second))
	case <-gone:
		err = clientGone()
	case <-ctx.Done():
		err = clientGone()
	}
	if b := q.quit(me); b != nil {
		if err.Side != message.ClientSide {
			return q.served(b)
		}
		b.leave()
	}
	return nil, err
}

// served is what a waiter got: nil when the backends that it waited for are not
// there any more.
func (q *queue) served(b *Backend) (*Backend, *message.Error) {
	if b == nil && q.pool.shortage() == drained {
		return nil, unavailable(errDrained, drainedAgain)
	}
	return b, nil
}

// join puts a request at the end of the queue, or serves it at once if there
// is room after all.
func (q *queue) join(w *wish) (*waiter, *message.Error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) >= q.size {
		return nil, unavailable(errQueueFull, max(q.timeout, time.Second))
	}
	me := &waiter{*w, make(chan *Backend, 1)}
	me.wish.tried = slices.Clone(w.tried)
	q.list = append(q.list, me)
	q.waiting.Add(1)
	if len(q.list) == 1 {
		q.await()
	}
	// Whoever leaves from now on sees that somebody waits; who left before
	// made room.
	if len(q.list) == 1 || w.sticky != nil {
		q.try(len(q.list) - 1)
	}
	return me, nil
}

// try serves the waiter at i if that is possible now. mu is held.
func (q *queue) try(i int) bool {
	me := q.list[i]
	me.wish.begin(time.Now())
	b, why := q.pool.choose(&me.wish)
	if why == occupied {
		return false
	}
	q.serve(i, b)
	return true
}

func (q *queue) serve(i int, b *Backend) {
	q.list[i].got <- b
	q.remove(i)
}

// remove takes a waiter out. mu is held.
func (q *queue) remove(i int) {
	q.list = slices.Delete(q.list, i, i+1)
	q.waiting.Add(-1)
	if len(q.list) > 0 {
		return
	}
	q.unawait()
	for _, b := range q.parting {
		q.pool.network.part(b)
	}
	q.parting = nil
}

// keeps reports whether a backend of a retired pool stays at its gate for now:
// somebody waits for room there.
func (p *Pool) keeps(b *Backend) bool {
	q := p.queue
	if q == nil || !p.retired.Load() {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return false
	}
	q.parting = append(q.parting, b)
	return true
}

// await tells the gates of the backends that somebody waits. mu is held.
func (q *queue) await() {
	for _, b := range q.pool.Backends() {
		if b.gate != nil {
			b.gate.awaited.Add(1)
			q.gates = append(q.gates, b.gate)
		}
	}
}

func (q *queue) unawait() {
	for _, g := range q.gates {
		g.awaited.Add(-1)
	}
	q.gates = q.gates[:0]
}

// quit takes a waiter out. It returns the backend that the waiter was given
// meanwhile, if any.
func (q *queue) quit(me *waiter) *Backend {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.list, me); i >= 0 {
		q.remove(i)
		return nil
	}
	return <-me.got
}

// room is told that somebody has left a backend, and reports whether another
// one took the place.
func (q *queue) room(b *Backend) bool {
	if q.waiting.Load() == 0 {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	now := time.Now().UnixNano()
	for i, me := range q.list {
		s := me.wish.sticky
		if s != nil && s != b && !s.drained() && !s.poor(now, true) || slices.Contains(me.wish.tried, b) {
			continue
		}
		me.wish.now = now
		if t := b.tier(&me.wish); t < 0 || t >= 2 && q.pool.hasOther(b, now) || t < 2 && !b.trust.claim(now) {
			continue
		}
		if !b.enter() {
			return false
		}
		q.serve(i, b)
		return true
	}
	return false
}

// look serves whoever can be served: the backends are others than before, or
// in another state.
func (q *queue) look() {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) > 0 {
		q.unawait()
		q.await()
	}
	for i := 0; i < len(q.list); {
		if !q.try(i) {
			i++
		}
	}
}
