package config

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"strings"

	"usher/router"
)

// paths reads the table of path prefixes.
func (b *builder) paths(s *Site, t *table) {
	sub, ok := t.sub("paths")
	if !ok {
		return
	}
	s.Paths, sub.label = nil, "path "
	for _, prefix := range slices.Sorted(maps.Keys(sub.values)) {
		if err := checkPrefix(prefix); err != nil {
			sub.report.add(sub.site, sub.at(prefix), "path %q: %v", prefix, err)
			continue
		}
		if list, ok := b.list(sub, prefix); ok {
			s.Paths = append(s.Paths, Path{strings.Clone(prefix), list})
		}
	}
	slices.SortStableFunc(s.Paths, func(a, b Path) int { return cmp.Compare(len(b.Prefix), len(a.Prefix)) })
}

// checkPrefix checks that a prefix is what a request's path can begin with,
// and its own normal form: the router refuses requests for any other.
func checkPrefix(prefix string) error {
	switch {
	case !strings.HasPrefix(prefix, "/"):
		return errors.New(`must begin with "/"`)
	case prefix == "/":
		return errors.New("is every path: that is what to is for")
	case strings.ContainsAny(prefix, "?#"):
		return errors.New("a query or fragment is no part of a path")
	case strings.ContainsFunc(prefix, notInPath):
		return errors.New("spaces, control and non-ASCII characters must be percent-encoded")
	case !percentsAreGood(prefix):
		return errors.New(`"%" must be followed by two hexadecimal digits`)
	}
	if normal := string(router.Normalize(nil, []byte(prefix))); normal != prefix {
		return errors.New("is not in normal form: write " + normal)
	}
	return nil
}

func notInPath(r rune) bool { return r <= ' ' || r >= 0x7f }

func percentsAreGood(path string) bool {
	for {
		i := strings.IndexByte(path, '%')
		if i < 0 {
			return true
		}
		path = path[i+1:]
		if len(path) < 2 || !hexDigit(path[0]) || !hexDigit(path[1]) {
			return false
		}
	}
}

func hexDigit(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
