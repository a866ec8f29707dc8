package upstream

import (
	"slices"
	"time"
)

// take returns an idle connection that is still open and silent, the last one
// used first; serverName must be the one it was verified for.
func (b *Backend) take(serverName string) *conn {
	for {
		b.mu.Lock()
		c := b.pop(serverName)
		b.mu.Unlock()
		if c == nil || c.h1.Idle() {
			return c
		}
		c.vm.Close()
	}
}

// pop is called with mu held.
func (b *Backend) pop(serverName string) *conn {
	for i := len(b.idle) - 1; i >= 0; i-- {
		if c := b.idle[i]; c.serverName == serverName {
			b.idle = slices.Delete(b.idle, i, i+1)
			return c
		}
	}
	return nil
}

// put keeps a connection for the next exchange.
func (b *Backend) put(c *conn, now time.Time) {
	c.since = now
	b.mu.Lock()
	keep := len(b.idle) < idlePerSite && !b.retired
	if keep {
		b.idle = append(b.idle, c)
	}
	b.mu.Unlock()
	if !keep {
		c.vm.Close()
	}
}

// retire closes what is idle and has put keep nothing.
func (b *Backend) retire() {
	b.mu.Lock()
	b.retired = true
	b.mu.Unlock()
	b.reap(time.Now().Add(time.Hour))
}

// dropIdle closes what is idle: the backend has failed, and what it still has
// open would fail as well, or say nothing.
func (b *Backend) dropIdle() {
	b.reap(time.Now().Add(time.Hour))
	if b.shared != nil {
		b.shared.drop()
	}
}

// reap closes connections idle since before t.
func (b *Backend) reap(t time.Time) {
	b.mu.Lock()
	n := 0
	for n < len(b.idle) && b.idle[n].since.Before(t) {
		n++
	}
	old := slices.Clone(b.idle[:n])
	b.idle = slices.Delete(b.idle, 0, n)
	b.mu.Unlock()
	for _, c := range old {
		c.vm.Close()
	}
}

// await notes that an exchange that can be tried elsewhere waits for its
// response head. ceased follows.
func (b *Backend) await(c *conn) {
	b.mu.Lock()
	c.place, c.aborted = len(b.waiting), false
	b.waiting = append(b.waiting, c)
	b.mu.Unlock()
}

// ceased is the end of that. It reports whether the exchange was aborted.
func (b *Backend) ceased(c *conn) (aborted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.waiting) - 1
	b.waiting[c.place] = b.waiting[last]
	b.waiting[c.place].place = c.place
	b.waiting[last] = nil
	b.waiting = b.waiting[:last]
	return c.aborted
}

// abortWaiting ends the exchanges that wait for a response head. The lock is
// held over Close: after ceased the connection may be another exchange's.
func (b *Backend) abortWaiting() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.waiting {
		if !c.aborted {
			c.aborted = true
			c.vm.Close()
		}
	}
}
