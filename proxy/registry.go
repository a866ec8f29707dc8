package proxy

import (
	"hash/maphash"
	"sync"
)

// registry is a set in shards, so that connections that come and go do not
// wait for each other.
type registry[T comparable] struct {
	seed   maphash.Seed
	shards [16]shard[T]
}

type shard[T comparable] struct {
	mu  sync.Mutex
	set map[T]struct{}
	_   [48]byte // each shard on a cache line of its own
}

func newRegistry[T comparable]() *registry[T] {
	r := &registry[T]{seed: maphash.MakeSeed()}
	for i := range r.shards {
		r.shards[i].set = make(map[T]struct{})
	}
	return r
}

func (r *registry[T]) shard(v T) *shard[T] {
	return &r.shards[maphash.Comparable(r.seed, v)%uint64(len(r.shards))]
}

func (r *registry[T]) add(v T) {
	s := r.shard(v)
	s.mu.Lock()
	s.set[v] = struct{}{}
	s.mu.Unlock()
}

func (r *registry[T]) remove(v T) {
	s := r.shard(v)
	s.mu.Lock()
	delete(s.set, v)
	s.mu.Unlock()
}

// each calls f for every member; f may add and remove.
func (r *registry[T]) each(f func(T)) {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		members := make([]T, 0, len(s.set))
		for v := range s.set {
			members = append(members, v)
		}
		s.mu.Unlock()
		for _, v := range members {
			f(v)
		}
	}
}
