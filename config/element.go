package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// element is the part of a path that stands for the i-th element of a list of
// tables: a key of the second [[forward]] is at "forward", element(1), "listen".
// No key looks like it.
func element(i int) string { return "\x00" + strconv.Itoa(i) }

// isElement reports whether a part of a path is no key.
func isElement(part string) bool { return strings.HasPrefix(part, "\x00") }

// eachPart calls f with the path and the place of every part of every key but
// those to pass over.
func (s *source) eachPart(pass func(key []string) bool, f func(path []string, p part)) {
	w := walk{s, make(map[string]int)}
	for i, key := range s.keys {
		if pass != nil && pass(key) {
			continue
		}
		own := s.own(i)
		start := len(key) - len(own)
		if in, ok := s.marks.element(int32(i)); ok {
			f(append(w.path(in.owner), element(int(in.element))), part{offset: in.at})
		}
		w.key(int32(i), func(n int, path []string) {
			if n >= start {
				f(path, own[n-start])
			}
		})
	}
}

// walk goes through the keys of a source in order and finds out in which
// elements of lists they stand.
type walk struct {
	source *source
	counts map[string]int // how many of a [[key]] there were, by path
}

// key calls f with the path of each part of the i-th key that is not that of a
// list it stands in, and of the element that it begins if it is a [[key]].
func (w walk) key(i int32, f func(n int, path []string)) {
	key, m := w.source.keys[i], w.source.marks
	if len(m.arrays)+len(m.inside) == 0 {
		for n := range key {
			f(n, key[:n+1])
		}
		return
	}
	if in, ok := m.element(i); ok {
		path := append(w.path(in.owner), element(int(in.element)))
		for n := len(w.source.keys[in.owner]); n < len(key); n++ {
			path = append(path, key[n])
			f(n, path)
		}
		return
	}
	_, header := slices.BinarySearch(m.arrays, i)
	w.plain(key, header, f)
}

// plain is a key that stands in no list of inline tables.
func (w walk) plain(key []string, header bool, f func(n int, path []string)) {
	path := make([]string, 0, 2*len(key))
	for n, k := range key {
		path = append(path, k)
		f(n, path)
		at := joined(path)
		begins := header && n == len(key)-1
		if begins {
			w.counts[at]++
		}
		if w.counts[at] > 0 {
			path = append(path, element(w.counts[at]-1))
		}
		if begins {
			f(n, path)
		}
	}
}

// path is that of a key whose value is a list.
func (w walk) path(i int32) (whole []string) {
	w.key(i, func(_ int, path []string) { whole = path })
	return slices.Clip(whole)
}

// element is the element that the i-th key stands in.
func (m *marks) element(i int32) (inside, bool) {
	n, ok := slices.BinarySearchFunc(m.inside, i, func(in inside, i int32) int { return cmp.Compare(in.key, i) })
	if !ok {
		return inside{}, false
	}
	return m.inside[n], true
}
