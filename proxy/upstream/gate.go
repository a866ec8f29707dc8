package upstream

import (
	"slices"
	"sync"
	"sync/atomic"
)

// gate is the limit of an address that several pools share: their exchanges
// and tunnels together may not exceed it.
type gate struct {
	most    atomic.Int64
	active  atomic.Int64
	awaited atomic.Int32 // pools whose queue waits for it

	mu      sync.Mutex
	members []*Backend // mu; of all pools
	turn    int        // mu; who is asked first
}

// join makes the backend one of those that share the limit of its address.
func (n *network) join(b *Backend, most int) *gate {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := place{b.machine, b.text}
	g := n.gates[at]
	if g == nil {
		g = &gate{}
		n.gates[at] = g
	}
	g.most.Store(int64(most)) // of the newest generation
	g.mu.Lock()
	g.members = append(g.members, b)
	g.mu.Unlock()
	return g
}

// part takes the backend out.
func (n *network) part(b *Backend) {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := b.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members = slices.DeleteFunc(g.members, func(m *Backend) bool { return m == b })
	if at := (place{b.machine, b.text}); len(g.members) == 0 && n.gates[at] == g {
		delete(n.gates, at)
	}
}

// enter counts one in; false when there is no room.
func (g *gate) enter() bool {
	if g.active.Add(1) > g.most.Load() {
		g.active.Add(-1)
		return false
	}
	return true
}

// leave counts one out and lets the next one in that waits, of whichever pool:
// those that wait take turns.
func (g *gate) leave() {
	g.active.Add(-1)
	if g.awaited.Load() == 0 {
		return
	}
	g.mu.Lock()
	n := len(g.members)
	members := make([]*Backend, 0, n)
	for i := range n {
		members = append(members, g.members[(g.turn+i)%n])
	}
	g.turn++
	g.mu.Unlock()
	for _, b := range members {
		if q := b.pool.queue; q != nil && q.room(b) {
			return
		}
	}
}
