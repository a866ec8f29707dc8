package proxy

import (
	"hash/maphash"
	"sync"
)

// registry is a set in shards, so that connections that come and go do not
// wait for each other. Its members are linked to each other: a map would cost
// several times as much for each.
type registry[T member[T]] struct {
	seed   maphash.Seed
	shards [16]shard[T]
}

// member is a pointer to something that holds its place in a registry.
type member[T any] interface {
	comparable
	at() *place[T]
}

// place is where a member is in its registry; it belongs to that.
type place[T any] struct{ next, prev T }

func (p *place[T]) at() *place[T] { return p }

type shard[T member[T]] struct {
	mu    sync.Mutex
	first T
	_     [48]byte // each shard on a cache line of its own
}

func newRegistry[T member[T]]() *registry[T] { return &registry[T]{seed: maphash.MakeSeed()} }

func (r *registry[T]) shard(v T) *shard[T] {
	return &r.shards[maphash.Comparable(r.seed, v)%uint64(len(r.shards))]
}

// add is called once for each member.
func (r *registry[T]) add(v T) {
	s := r.shard(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	if s.first != none {
		s.first.at().prev = v
	}
	v.at().next = s.first
	s.first = v
}

// remove is called once for what was added.
func (r *registry[T]) remove(v T) {
	s := r.shard(v)
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	p := v.at()
	if p.prev != none {
		p.prev.at().next = p.next
	} else {
		s.first = p.next
	}
	if p.next != none {
		p.next.at().prev = p.prev
	}
	*p = place[T]{}
}

// each calls f for every member; f may add and remove.
func (r *registry[T]) each(f func(T)) {
	for i := range r.shards {
		for _, v := range r.shards[i].members() {
			f(v)
		}
	}
}

func (s *shard[T]) members() (all []T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var none T
	for v := s.first; v != none; v = v.at().next {
		all = append(all, v)
	}
	return all
}
