package upstream

import (
	"cmp"
	"crypto/tls"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"usher/proxy/message"
)

// Pool is a site's backends with their connections. It is safe for concurrent
// use.
type Pool struct {
	key      string
	spec     Spec
	network  *network
	tls      *tls.Config // nil: plain
	backends []*Backend
	// private is set when connections carry one client's identity: always
	// with a PROXY header, and from the first WWW-Authenticate: Negotiate or
	// NTLM on.
	private atomic.Bool
	retired atomic.Bool
}

// Backend is one address of a pool.
type Backend struct {
	Address Address
	text    string     // Address.String, made once
	literal netip.Addr // Address.Host when it is an IP
	network string
	target  string // what a literal or Unix address dials

	active atomic.Int64 // exchanges and tunnels
	// away is when the backend may be tried again after a failure, in Unix
	// nanoseconds; 0 when its last connection worked.
	away     atomic.Int64
	failures atomic.Int32 // in a row
	last     atomic.Pointer[lastFailure]

	mu      sync.Mutex
	retired bool    // nothing is kept any more
	idle    []*conn // the last one used is the last

	shared *shared // instead of idle, with HTTP/2; else nil
}

func newPool(n *network, key string, spec Spec) (*Pool, error) {
	config, err := spec.tlsConfig()
	if err != nil {
		return nil, err
	}
	p := &Pool{key: key, spec: spec, network: n, tls: config}
	p.private.Store(spec.ProxyProtocol != "")
	p.backends = make([]*Backend, 0, len(spec.Addresses))
	for _, a := range spec.Addresses {
		b := newBackend(a)
		if spec.HTTP2 {
			b.shared = &shared{opening: make(chan struct{}, 1)}
		}
		p.backends = append(p.backends, b)
	}
	return p, nil
}

func newBackend(a Address) *Backend {
	b := &Backend{Address: a, text: a.String(), network: "tcp"}
	if a.Unix != "" {
		b.network, b.target = "unix", a.Unix
	} else if ip, err := netip.ParseAddr(a.Host); err == nil {
		b.literal, b.target = ip, b.text
	}
	return b
}

// Retire closes what is idle and lets nothing be pooled any more: no site has
// the pool. Exchanges under way go on.
func (p *Pool) Retire() {
	p.retired.Store(true)
	for _, b := range p.backends {
		b.retire()
		if b.shared != nil {
			b.shared.retire()
		}
	}
}

// Backends are the addresses in their order.
func (p *Pool) Backends() []*Backend { return p.backends }

// Affinity sends related work to the same backend: equal values prefer the
// same one among those that work. Zero has no preference.
type Affinity uint64

// weight is how much work of this affinity prefers a backend. Each value has an
// order of its own (rendezvous hashing), so that it moves only when its own
// backend fails or returns, not with every change of the others.
func (a Affinity) weight(b *Backend) uint64 {
	h := uint64(a)
	for i := range len(b.text) {
		h = (h ^ uint64(b.text[i])) * 0x100000001b3 // FNV-1a
	}
	// The finaliser of splitmix64: FNV leaves similar texts in a fixed order.
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// pick chooses a backend that was not tried yet, or nil: by affinity, else the
// less busy of two random ones; those that failed just now only when no other
// is left.
func (p *Pool) pick(want Affinity, tried []*Backend) *Backend {
	if len(p.backends) == 1 {
		if len(tried) > 0 {
			return nil
		}
		return p.backends[0]
	}
	var stack [16]*Backend
	fit := p.candidates(stack[:0], tried)
	switch n := len(fit); {
	case n == 0:
		return nil
	case n == 1:
		return fit[0]
	case want != 0:
		return slices.MaxFunc(fit, func(x, y *Backend) int { return cmp.Compare(want.weight(x), want.weight(y)) })
	default:
		i := rand.IntN(n)
		j := rand.IntN(n - 1)
		if j >= i {
			j++
		}
		if fit[j].active.Load() < fit[i].active.Load() {
			i = j
		}
		return fit[i]
	}
}

func (p *Pool) candidates(fit, tried []*Backend) []*Backend {
	now := time.Now().UnixNano()
	for _, b := range p.backends {
		if b.away.Load() <= now && !slices.Contains(tried, b) {
			fit = append(fit, b)
		}
	}
	if len(fit) > 0 {
		return fit
	}
	for _, b := range p.backends {
		if !slices.Contains(tried, b) {
			fit = append(fit, b)
		}
	}
	return fit
}

// failed keeps a backend out of the first choice for a while that doubles with
// each failure in a row, from 1 s to 30 s.
func (b *Backend) failed(err error) {
	n := min(b.failures.Add(1)-1, 5)
	b.away.Store(time.Now().Add(min(time.Second<<n, 30*time.Second)).UnixNano())
	b.last.Store(&lastFailure{time.Now(), err.Error()})
}

// lastFailure is for people who ask what is wrong.
type lastFailure struct {
	at   time.Time
	text string
}

func (b *Backend) worked() {
	if b.away.Load() != 0 {
		b.away.Store(0)
		b.failures.Store(0)
	}
}

// State is what `usher vms` shows of a backend.
type State struct {
	Address   string
	Active    int64 // exchanges and tunnels now
	Idle      int   // connections kept
	Failing   bool  // the last attempt failed
	LastError string
	FailedAt  time.Time
}

// State is the backend now.
func (b *Backend) State() State {
	b.mu.Lock()
	idle := len(b.idle)
	b.mu.Unlock()
	s := State{Address: b.text, Active: b.active.Load(), Idle: idle, Failing: b.away.Load() != 0}
	if f := b.last.Load(); f != nil {
		s.LastError, s.FailedAt = f.text, f.at
	}
	return s
}

// take returns an idle connection that is still open and silent, the last one
// used first; serverName must be the one it was verified for.
func (b *Backend) take(serverName string) *conn {
	for {
		b.mu.Lock()
		c := b.pop(serverName)
		b.mu.Unlock()
		if c == nil || c.h1.Idle() {
			return c
		}
		c.vm.Close()
	}
}

// pop is called with mu held.
func (b *Backend) pop(serverName string) *conn {
	for i := len(b.idle) - 1; i >= 0; i-- {
		if c := b.idle[i]; c.serverName == serverName {
			b.idle = slices.Delete(b.idle, i, i+1)
			return c
		}
	}
	return nil
}

// put keeps a connection for the next exchange.
func (b *Backend) put(c *conn) {
	c.since = time.Now()
	b.mu.Lock()
	keep := len(b.idle) < idlePerSite && !b.retired
	if keep {
		b.idle = append(b.idle, c)
	}
	b.mu.Unlock()
	if !keep {
		c.vm.Close()
	}
}

// retire closes what is idle and has put keep nothing.
func (b *Backend) retire() {
	b.mu.Lock()
	b.retired = true
	b.mu.Unlock()
	b.reap(time.Now().Add(time.Hour))
}

// reap closes connections idle since before t.
func (b *Backend) reap(t time.Time) {
	b.mu.Lock()
	n := 0
	for n < len(b.idle) && b.idle[n].since.Before(t) {
		n++
	}
	old := slices.Clone(b.idle[:n])
	b.idle = slices.Delete(b.idle, 0, n)
	b.mu.Unlock()
	for _, c := range old {
		c.vm.Close()
	}
}

// keepAddresses closes idle connections to addresses that the name of the
// backend no longer has.
func (b *Backend) keepAddresses(now []netip.Addr) {
	b.mu.Lock()
	var gone []*conn
	b.idle = slices.DeleteFunc(b.idle, func(c *conn) bool {
		if slices.Contains(now, c.remote) {
			return false
		}
		gone = append(gone, c)
		return true
	})
	b.mu.Unlock()
	for _, c := range gone {
		c.vm.Close()
	}
}

// side tells who is at fault for an error of a connection to a VM.
func side(err error) message.Side {
	if e, ok := err.(*message.Error); ok {
		return e.Side
	}
	return message.VMSide
}
