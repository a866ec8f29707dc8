package discover

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"usher/proxy/upstream/names"
)

const (
	defaultInterval = 10 * time.Second
	askLimit        = 10 * time.Second       // for one question
	hurried         = time.Second            // between questions while somebody waits for the VM
	troubled        = 2 * time.Second        // the same in the first minute of trouble
	trouble         = time.Minute            // how long that is
	breath          = 100 * time.Millisecond // between questions for changes that were told of
	mostAddresses   = 256                    // of one answer that are used: a guest can claim any number
)

// Keeper keeps a Feed up to date.
type Keeper struct {
	Source   Source
	Feed     *names.Feed
	Interval time.Duration   // between questions, with a tenth of jitter; 10 s by default
	Hurry    func() bool     // whether somebody waits for the VM; may be nil
	Now      <-chan struct{} // asks at once; may be nil
	Told     func(Change)    // is told of every change; may be nil

	watched atomic.Bool // the source would tell of changes
	sure    bool        // the latest question was answered
	ours    bool        // the Feed's endpoints are an answer of this source
	since   time.Time   // of trouble
	last    Change
}

// Change is a new state of a source.
type Change struct {
	Addresses []netip.Addr
	Err       error // why there is no newer answer, or that the VM is off
}

// Run asks until ctx ends. A source that can tell of changes is not asked at
// intervals as long as it can.
func (k *Keeper) Run(ctx context.Context) {
	if k.Interval <= 0 {
		k.Interval = defaultInterval
	}
	changed := make(chan struct{}, 1)
	watch, done := make(chan struct{}), make(chan struct{})
	if w, ok := k.Source.(watcher); ok {
		go func() {
			defer close(done)
			k.watch(ctx, w, changed, watch)
		}()
	} else {
		close(done)
	}
	defer func() { <-done }()
	for {
		k.ask(ctx)
		timer := time.NewTimer(k.pause())
		select {
		case <-timer.C:
		case <-k.Now:
		case <-changed:
			sleep(ctx, breath)
		case <-ctx.Done():
		}
		timer.Stop()
		select {
		case watch <- struct{}{}: // a broken watch is tried again
		default:
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// watch keeps a source telling of changes; after a break it waits for again.
func (k *Keeper) watch(ctx context.Context, w watcher, changed chan<- struct{}, again <-chan struct{}) {
	for {
		w.Watch(ctx, func() {
			k.watched.Store(true)
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		if k.watched.Swap(false) {
			select {
			case changed <- struct{}{}: // what happened in between?
			default:
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-again:
		}
	}
}

// pause is the time until the next question.
func (k *Keeper) pause() time.Duration {
	pause := k.Interval
	switch {
	case k.Hurry != nil && k.Hurry():
		pause = min(pause, hurried)
	case k.sure && k.watched.Load():
		return 10 * pause // should an event ever get lost
	case !k.sure && time.Since(k.since) < trouble:
		pause = min(pause, troubled)
	}
	return time.Duration(float64(pause) * (0.9 + 0.2*rand.Float64()))
}

// ask asks once and sets the Feed.
func (k *Keeper) ask(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	addresses, err := k.Source.Addresses(limited)
	if ctx.Err() != nil {
		return
	}
	if k.sure || k.since.IsZero() {
		k.since = time.Now()
	}
	k.sure = err == nil
	before := k.Feed.Answer()
	answer := &names.Answer{Err: err, At: time.Now()}
	switch {
	case err == nil:
		for _, a := range addresses[:min(len(addresses), mostAddresses)] {
			answer.Endpoints = append(answer.Endpoints, names.Endpoint{Addr: a})
		}
	case !Off(err) && k.ours && before != nil:
		answer.Endpoints = before.Endpoints
	}
	k.ours = k.ours || err == nil
	k.Feed.Set(answer)
	k.tell(answer)
}

func (k *Keeper) tell(a *names.Answer) {
	c := Change{Err: a.Err}
	for _, e := range a.Endpoints {
		c.Addresses = append(c.Addresses, e.Addr)
	}
	same := slices.Equal(c.Addresses, k.last.Addresses) && text(c.Err) == text(k.last.Err)
	k.last = c
	if !same && k.Told != nil {
		k.Told(c)
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
