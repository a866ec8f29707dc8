package names

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Endpoint is one address that a name stands for.
type Endpoint struct {
	Addr   netip.Addr
	Port   uint16 // of an SRV record; 0: the port that the backend is configured with
	Weight uint16 // of an SRV record (RFC 2782); 0: none
	Backup bool   // an SRV record of lower priority than the best one
}

// Answer is what is known of a name. It is never changed once it is set.
type Answer struct {
	Endpoints []Endpoint // the last good ones; empty when the name never resolved
	Err       error      // why the latest attempt failed; nil when it did not
	At        time.Time  // of the latest attempt
}

// Feed is an answer that changes, and those who want to know. The zero value
// has no answer. It is safe for concurrent use.
type Feed struct {
	answer atomic.Pointer[Answer]
	mu     sync.Mutex
	next   int
	told   []subscriber
}

type subscriber struct {
	id      int
	changed func()
}

// Answer is the present one, nil before the first.
func (f *Feed) Answer() *Answer { return f.answer.Load() }

// Set replaces the answer and tells the subscribers, each in the calling
// goroutine, when the endpoints are others than before or it is the first.
func (f *Feed) Set(a *Answer) {
	before := f.answer.Swap(a)
	if before != nil && slices.Equal(before.Endpoints, a.Endpoints) {
		return
	}
	f.mu.Lock()
	told := slices.Clone(f.told)
	f.mu.Unlock()
	for _, s := range told {
		s.changed()
	}
}

// Subscribe has changed called after every change from now on, until cancel.
// A call that has begun may still run when cancel returns.
func (f *Feed) Subscribe(changed func()) (cancel func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next++
	id := f.next
	f.told = append(f.told, subscriber{id, changed})
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.told = slices.DeleteFunc(f.told, func(s subscriber) bool { return s.id == id })
	}
}
