package names

import "context"

// Options is what a Resolver works with; the zero value is that of the machine.
type Options struct {
	ResolvConf string   // empty: /etc/resolv.conf
	Hosts      string   // empty: /etc/hosts
	Servers    []string // "ip:port", asked instead of those of ResolvConf
	// Log, if not nil, is told when the endpoints of a name change and when it
	// begins to fail, fails for another reason or ceases to. It must not block.
	Log func(host string, now *Answer)
}

// Resolver keeps the answers of DNS names up to date.
type Resolver struct{}

// New makes a Resolver; Run makes it ask.
func New(Options) *Resolver { return &Resolver{} }

// Run asks until ctx ends.
func (r *Resolver) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Watch begins to keep a name up to date, or joins those who do; srv: it is
// the name of SRV records (RFC 2782). It does not wait. The caller calls
// release when he does not need the feed any more.
func (r *Resolver) Watch(host string, srv bool) (feed *Feed, release func()) {
	return &Feed{}, func() {}
}

// Refresh asks for a name again soon, at most once a second: a dial failed.
func (r *Resolver) Refresh(host string) {}
