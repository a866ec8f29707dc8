package server

import (
	"slices"

	"usher/config"
)

// same reports whether two forms of a site ask for the same, wherever in the
// file they stand. A site that names a CA file or a page is never the same,
// since the file may have changed.
func same(a, b *config.Site) bool {
	if a.Fault != nil || b.Fault != nil || files(a) || files(b) {
		return false
	}
	return a.Host == b.Host && slices.Equal(a.To, b.To) && slices.EqualFunc(a.Paths, b.Paths, samePath) &&
		(a.Settings == b.Settings || sameSettings(*a.Settings, *b.Settings))
}

func sameSettings(x, y config.Settings) bool {
	if !equal(x.Timeouts, y.Timeouts) || !equal(x.Sticky, y.Sticky) || !equal(x.Health, y.Health) {
		return false
	}
	x.Timeouts, x.Sticky, x.Health = y.Timeouts, y.Sticky, y.Health
	return x == y
}

func samePath(a, b config.Path) bool { return a.Prefix == b.Prefix && slices.Equal(a.To, b.To) }

// files reports whether what a site asks for stands in files that are read when
// it is built.
func files(s *config.Site) bool {
	return s.CAFile != "" || s.Maintenance != "" || len(s.ErrorPages) > 0
}

// equal compares what two pointers lead to; nil equals nil.
func equal[T comparable](a, b *T) bool {
	return a == b || a != nil && b != nil && *a == *b
}
