package router

import (
	"bytes"
	"maps"
)

// Table maps canonical hosts to values: exact names, "*.example.com" for one
// label, "*" for everything else. It is immutable and safe for concurrent use.
type Table[T any] struct {
	exact map[string]T
	wild  map[string]T // by what follows "*."
	rest  T
	any   bool // there is a "*"
}

// NewTable makes a table of patterns as Pattern writes them. It does not keep
// sites.
func NewTable[T any](sites map[string]T) *Table[T] {
	t := &Table[T]{exact: make(map[string]T, len(sites)), wild: make(map[string]T)}
	for pattern, value := range sites {
		t.set(pattern, value)
	}
	return t
}

// Changed is the table with other values for some patterns, old or new, and
// without those that are gone. t stays as it is.
func (t *Table[T]) Changed(set map[string]T, gone []string) *Table[T] {
	next := &Table[T]{maps.Clone(t.exact), maps.Clone(t.wild), t.rest, t.any}
	for _, pattern := range gone {
		switch in, key := next.place(pattern); {
		case in == nil:
			var none T
			next.rest, next.any = none, false
		default:
			delete(in, key)
		}
	}
	for pattern, value := range set {
		next.set(pattern, value)
	}
	return next
}

// place is where the value of a pattern stands; nil for that of "*".
func (t *Table[T]) place(pattern string) (in map[string]T, key string) {
	switch {
	case pattern == "*":
		return nil, ""
	case len(pattern) > 2 && pattern[:2] == "*.":
		return t.wild, pattern[2:]
	}
	return t.exact, pattern
}

func (t *Table[T]) set(pattern string, value T) {
	if in, key := t.place(pattern); in != nil {
		in[key] = value
	} else {
		t.rest, t.any = value, true
	}
}

// Lookup finds the value for a canonical host: exact, then wildcard, then
// catch-all. An empty key, for a client that named no host, finds only the
// catch-all, and an IP address no wildcard. It allocates nothing and takes the
// same time for any number of sites.
func (t *Table[T]) Lookup(key []byte) (value T, ok bool) {
	if value, ok = t.exact[string(key)]; ok {
		return value, true
	}
	if dot := bytes.IndexByte(key, '.'); dot > 0 && len(t.wild) > 0 {
		if value, ok = t.wild[string(key[dot+1:])]; ok {
			return value, true
		}
	}
	return t.rest, t.any
}
