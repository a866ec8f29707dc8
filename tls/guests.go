package tls

import (
	"container/list"
	"sync"
)

// guests are the most recently used leaves, by name.
type guests struct {
	mu    sync.Mutex
	limit int
	order *list.List // of guest, the latest in front
	named map[string]*list.Element
}

type guest struct {
	name  string
	shown *shown
}

func newGuests(limit int) guests {
	return guests{limit: limit, order: list.New(), named: make(map[string]*list.Element)}
}

func (g *guests) get(name string) *shown {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.named[name]
	if e == nil {
		return nil
	}
	g.order.MoveToFront(e)
	return e.Value.(guest).shown
}

func (g *guests) put(name string, s *shown) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.named[name]; e != nil {
		g.order.Remove(e)
	}
	g.named[name] = g.order.PushFront(guest{name, s})
	if last := g.order.Back(); g.order.Len() > g.limit {
		g.order.Remove(last)
		delete(g.named, last.Value.(guest).name)
	}
}
