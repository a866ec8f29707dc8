package tls

import (
	"context"
	"sync"
	"time"
)

// action is what a job does next.
type action int

const (
	readStorage action = iota // no network
	askRenewal                // ask the CA for its renewal window (RFC 9773)
	placeOrder                // get or renew the certificate
	actions
)

// plan is the next thing to do for a site.
type plan struct {
	action   action
	at       time.Time // not before; the zero time is now
	failures int
}

// job is the one thing that is planned or under way for a site. Its fields
// belong to jobs.
type job struct {
	site       *site
	plan       plan
	generation uint64 // in which the site came
	asked      bool   // a client was turned away for want of the certificate
	turn       uint64
	in         *queue // or nil
	index      int    // in that queue

	cancel context.CancelFunc // while under way
	gone   bool               // the site went
	again  bool               // what is under way is to be begun anew
}

// lane holds the due jobs of one action.
type lane struct {
	queue
	limit, running int // at the same time
	rate           window
}

// jobs does one thing at a time for each site, and many for all. How long one
// takes holds up no other: at its rate an action never fills its limit before
// the first of them has run out of time.
type jobs struct {
	do   func(context.Context, *site, action) plan
	wake chan struct{}
	done sync.WaitGroup

	mu    sync.Mutex
	ctx   context.Context // of run
	later queue
	lanes [actions]lane
	turns uint64
}

func newJobs(do func(context.Context, *site, action) plan) *jobs {
	j := &jobs{do: do, wake: make(chan struct{}, 1)}
	j.later.less = byTime
	for i := range j.lanes {
		j.lanes[i].less = byUrgency
	}
	j.lanes[readStorage].limit = 2
	j.lanes[askRenewal].limit = 100
	j.lanes[askRenewal].rate = window{events: 10, span: time.Second}
	j.lanes[placeOrder].limit = 1000
	j.lanes[placeOrder].rate = window{events: 10, span: 10 * time.Second}
	return j
}

// apply begins with the sites of begin, anew if need be, and ends those of end.
func (j *jobs) apply(generation uint64, begin, end []*site) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range end {
		j.end(&s.job)
	}
	for _, s := range begin {
		s.job.generation = generation
		j.begin(&s.job)
	}
	j.poke()
}

func (j *jobs) end(b *job) {
	b.gone = true
	if b.in != nil {
		b.in.remove(b)
	}
	if b.cancel != nil {
		b.cancel()
	}
}

func (j *jobs) begin(b *job) {
	if b.cancel != nil {
		b.again = true
		b.cancel()
		return
	}
	if b.in != nil {
		b.in.remove(b)
	}
	b.plan = plan{action: readStorage}
	j.place(b)
}

func (j *jobs) poke() {
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

// ask puts a site in front of those that nobody asks for. It does not shorten
// a back-off.
func (j *jobs) ask(s *site) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if b := &s.job; !b.asked {
		b.asked = true
		if b.in != nil && b.in != &j.later {
			b.in.moved(b)
		}
	}
}

// next is the plan of a site, and whether it is under way.
func (j *jobs) next(s *site) (plan, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return s.job.plan, s.job.cancel != nil
}

// place puts a job where its plan says.
func (j *jobs) place(b *job) {
	if time.Until(b.plan.at) > 0 {
		j.later.add(b)
		return
	}
	j.turns++
	b.turn = j.turns
	j.lanes[b.plan.action].add(b)
}

// run does jobs until ctx ends, and waits for those under way.
func (j *jobs) run(ctx context.Context) {
	j.mu.Lock()
	j.ctx = ctx
	j.mu.Unlock()
	defer j.done.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		timer.Reset(j.start(time.Now()))
		select {
		case <-ctx.Done():
		case <-j.wake:
		case <-timer.C:
		}
	}
}

// start starts what may start now and says when to come back.
func (j *jobs) start(now time.Time) (wait time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	wait = time.Hour
	for b := j.later.first(); b != nil; b = j.later.first() {
		if left := b.plan.at.Sub(now); left > 0 {
			wait = min(wait, left)
			break
		}
		j.place(j.later.take())
	}
	for i := range j.lanes {
		l := &j.lanes[i]
		for l.first() != nil && l.running < l.limit {
			if left := l.rate.ready().Sub(now); left > 0 {
				wait = min(wait, left)
				break
			}
			l.rate.happened(now)
			j.launch(l, l.take())
		}
	}
	return wait
}

func (j *jobs) launch(l *lane, b *job) {
	ctx, cancel := context.WithCancel(j.ctx)
	b.cancel = cancel
	l.running++
	act := b.plan.action
	j.done.Go(func() {
		next := j.do(ctx, b.site, act)
		cancel()
		j.finish(l, b, next)
	})
}

func (j *jobs) finish(l *lane, b *job, next plan) {
	j.mu.Lock()
	defer j.mu.Unlock()
	l.running--
	b.cancel = nil
	if b.again {
		b.again = false
		next = plan{action: readStorage}
	}
	if b.plan = next; !b.gone {
		if act := next.action; act != readStorage && next.at.After(time.Now()) {
			b.asked = false
		}
		j.place(b)
	}
	j.poke()
}
