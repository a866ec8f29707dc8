package names

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Options is what a Resolver works with; the zero value is that of the machine.
type Options struct {
	ResolvConf string   // empty: /etc/resolv.conf
	Hosts      string   // empty: /etc/hosts
	Servers    []string // "ip:port", asked instead of those of ResolvConf
	// Log, if not nil, is told when the endpoints of a name change and when it
	// begins to fail, fails for another reason or ceases to. It must not block.
	Log func(host string, now *Answer)
}

// Resolver keeps the answers of DNS names up to date. It is safe for
// concurrent use.
type Resolver struct {
	log      func(host string, now *Answer)
	files    files
	servers  servers
	queries  chan struct{} // holds one element for each query under way
	exchange func(ctx context.Context, network, server string, query *dns.Msg) (*dns.Msg, error)
	wake     chan struct{} // the queue has changed

	mu      sync.Mutex
	names   map[key]*name // mu; those with watchers
	queue   queue         // mu; those that wait for their time
	running int           // mu; look-ups under way
}

// key is what a name is watched by.
type key struct {
	host string // lower case
	srv  bool
}

// name is a watched name.
type name struct {
	key
	feed *Feed

	refs     int       // Resolver.mu
	place    int       // Resolver.mu; in the queue, or notQueued
	due      time.Time // Resolver.mu; when to ask
	asked    time.Time // Resolver.mu; when the latest look-up began
	failures int       // Resolver.mu; in a row

	known map[string]family // last good addresses, by host; owned by the look-up under way
}

// New makes a Resolver; Run makes it ask.
func New(o Options) *Resolver {
	if o.ResolvConf == "" {
		o.ResolvConf = "/etc/resolv.conf"
	}
	if o.Hosts == "" {
		o.Hosts = "/etc/hosts"
	}
	if o.Log == nil {
		o.Log = func(string, *Answer) {}
	}
	return &Resolver{
		log:      o.Log,
		files:    files{resolvConf: file{path: o.ResolvConf}, hosts: file{path: o.Hosts}, servers: o.Servers},
		servers:  servers{silent: map[string]time.Time{}},
		queries:  make(chan struct{}, parallel),
		exchange: exchange,
		wake:     make(chan struct{}, 1),
		names:    map[key]*name{},
	}
}

// Watch begins to keep a name up to date, or joins those who do; srv: it is
// the name of SRV records (RFC 2782). It does not wait; an IP address has its
// answer at once. The caller calls release when he does not need the feed any
// more; the name is forgotten after the last one has.
func (r *Resolver) Watch(host string, srv bool) (feed *Feed, release func()) {
	k := key{strings.ToLower(host), srv}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.names[k]
	if n == nil {
		n = &name{key: k, feed: &Feed{}, place: notQueued, known: map[string]family{}}
		r.names[k] = n
		r.begin(n)
	}
	n.refs++
	return n.feed, sync.OnceFunc(func() { r.release(n) })
}

// begin answers for an address and queues a name. mu is held.
func (r *Resolver) begin(n *name) {
	if ip, err := netip.ParseAddr(n.host); err == nil && !n.srv {
		n.feed.Set(&Answer{Endpoints: []Endpoint{{Addr: ip.Unmap()}}, At: time.Now()})
		return
	}
	r.schedule(n, time.Now())
}

func (r *Resolver) release(n *name) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n.refs--; n.refs > 0 {
		return
	}
	delete(r.names, n.key)
	r.unschedule(n)
}

// Refresh asks for a name again soon, at most once a second: a dial failed. It
// does nothing for names that nobody watches and for one that is just being
// asked for.
func (r *Resolver) Refresh(host string) {
	host = strings.ToLower(host)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, srv := range [...]bool{false, true} {
		n := r.names[key{host, srv}]
		if n == nil || n.place == notQueued {
			continue
		}
		if at := later(time.Now(), n.asked.Add(refreshEvery)); at.Before(n.due) {
			r.schedule(n, at)
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
