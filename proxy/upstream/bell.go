package upstream

import "sync"

// bell wakes those that wait for a pool to change. Nobody waits, nothing is
// allocated.
type bell struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next ring; nil while nobody waits
}

// heard is closed by the next ring.
func (b *bell) heard() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
