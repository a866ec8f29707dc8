package router

import (
	"cmp"
	"slices"
	"sort"
	"strings"
)

// Paths maps path prefixes to values. A prefix that ends in a slash matches
// what is below it ("/api/" matches /api/x, not /api); one that does not
// matches itself and what is below it ("/api" matches /api and /api/x, not
// /apix). It is immutable and safe for concurrent use.
type Paths[T any] struct {
	prefixes []prefix[T] // sorted by text
	rest     T
}

type prefix[T any] struct {
	text  string
	value T
	// shorter is the index of the longest other prefix that text begins with,
	// byte for byte, or none.
	shorter int
}

const none = -1

// NewPaths makes a table; rest is the value where no prefix matches. A prefix
// begins with a slash and is its own Normalize; requests for any other are
// refused.
func NewPaths[T any](prefixes map[string]T, rest T) *Paths[T] {
	p := &Paths[T]{rest: rest}
	for text, value := range prefixes {
		p.prefixes = append(p.prefixes, prefix[T]{text, value, none})
	}
	slices.SortFunc(p.prefixes, func(a, b prefix[T]) int { return cmp.Compare(a.text, b.text) })
	for i := range p.prefixes {
		// What text begins with sorts before it, and everything in between
		// begins with that as well.
		at := i - 1
		for at != none && !strings.HasPrefix(p.prefixes[i].text, p.prefixes[at].text) {
			at = p.prefixes[at].shorter
		}
		p.prefixes[i].shorter = at
	}
	return p
}

// Lookup returns the value of the longest prefix of path, which may carry a
// query. ok is false when the path would match another prefix after decoding
// unreserved octets (RFC 3986 section 2.3) and removing dot segments, or when
// it neither begins with a slash nor is "*": such a request must be refused. An
// encoded slash stays what it is, empty segments count, and a backslash is an
// ordinary byte. Lookup allocates nothing for paths without a percent sign or
// dot segments, nor for others up to 512 bytes.
func (p *Paths[T]) Lookup(path []byte) (value T, ok bool) {
	path = withoutQuery(path)
	if len(path) == 0 || path[0] != '/' {
		return p.rest, string(path) == "*"
	}
	if len(p.prefixes) == 0 {
		return p.rest, true
	}
	at := p.find(path)
	if needsNormalizing(path) {
		var stack [512]byte
		if at != p.find(Normalize(stack[:0], path)) {
			return p.rest, false
		}
	}
	if at == none {
		return p.rest, true
	}
	return p.prefixes[at].value, true
}

// find returns the index of the longest prefix of path, or none.
func (p *Paths[T]) find(path []byte) int {
	// As in NewPaths: the prefixes of path are the last one that does not sort
	// after it, if that is one, and those that lead from there.
	at := sort.Search(len(p.prefixes), func(i int) bool { return p.prefixes[i].text > string(path) }) - 1
	for at != none && !matches(p.prefixes[at].text, path) {
		at = p.prefixes[at].shorter
	}
	return at
}

// matches reports whether path is prefix or, by whole segments, below it.
func matches(prefix string, path []byte) bool {
	n := len(prefix)
	if len(path) < n || string(path[:n]) != prefix {
		return false
	}
	return len(path) == n || prefix[n-1] == '/' || path[n] == '/'
}
