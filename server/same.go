package server

import (
	"slices"

	"usher/config"
)

// same reports whether two forms of a site ask for the same, wherever in the
// file they stand. A site that names a CA file or a page is never the same,
// since the file may have changed.
func same(a, b *config.Site) bool {
	x, y := *a, *b
	if x.Fault != nil || y.Fault != nil || files(&x) || files(&y) {
		return false
	}
	return x.Host == y.Host && slices.Equal(x.To, y.To) && slices.EqualFunc(x.Paths, y.Paths, samePath) &&
		x.Certificate == y.Certificate && x.CertFile == y.CertFile && x.KeyFile == y.KeyFile &&
		x.HTTP == y.HTTP && x.HTTPPort == y.HTTPPort && x.ServerName == y.ServerName &&
		x.Insecure == y.Insecure && x.ALPN == y.ALPN && x.ProxyProtocol == y.ProxyProtocol && x.HSTS == y.HSTS &&
		equal(x.Timeouts, y.Timeouts) && samePools(&x, &y)
}

// samePools compares how the work is shared out among backends.
func samePools(x, y *config.Site) bool {
	return x.Balance == y.Balance && equal(x.Sticky, y.Sticky) && x.SlowStart == y.SlowStart &&
		x.MaxConns == y.MaxConns && x.Queue == y.Queue && x.QueueTimeout == y.QueueTimeout && x.Adaptive == y.Adaptive &&
		equal(x.Health, y.Health) && x.HealthOff == y.HealthOff && x.NoEjection == y.NoEjection && x.Transparent == y.Transparent
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
