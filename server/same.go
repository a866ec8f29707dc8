package server

import (
	"slices"

	"usher/config"
)

// same reports whether two forms of a site ask for the same, wherever in the
// file they stand. A site that names a CA file is never the same, since the
// file may have changed.
func same(a, b *config.Site) bool {
	x, y := *a, *b
	if x.Fault != nil || y.Fault != nil || x.CAFile != "" || *x.Timeouts != *y.Timeouts {
		return false
	}
	return x.Host == y.Host && slices.Equal(x.To, y.To) && slices.EqualFunc(x.Paths, y.Paths, samePath) &&
		x.Certificate == y.Certificate && x.CertFile == y.CertFile && x.KeyFile == y.KeyFile &&
		x.HTTP == y.HTTP && x.HTTPPort == y.HTTPPort && x.ServerName == y.ServerName && y.CAFile == "" &&
		x.Insecure == y.Insecure && x.ALPN == y.ALPN && x.ProxyProtocol == y.ProxyProtocol && x.HSTS == y.HSTS
}

func samePath(a, b config.Path) bool { return a.Prefix == b.Prefix && slices.Equal(a.To, b.To) }
