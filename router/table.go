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
	t := &Table[T]{exact: maps.Clone(sites), wild: make(map[string]T)}
	if t.rest, t.any = sites["*"]; t.any {
		delete(t.exact, "*")
	}
	for pattern, value := range sites {
		if len(pattern) > 2 && pattern[:2] == "*." {
			t.wild[pattern[2:]] = value
			delete(t.exact, pattern)
		}
	}
	return t
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
