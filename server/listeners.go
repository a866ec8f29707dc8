package server

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"usher/config"
	"usher/proxy"
	"usher/proxy/socket"
	"usher/server/admin"
	"usher/telemetry"
)

// listener is one bound socket with its accept loop.
type listener struct {
	address string // as configured
	tls     bool
	forward bool // a raw port, of [[forward]]
	l       *socket.Listener
	done    chan struct{} // closed when the accept loop has ended
}

// acceptBatch is how many connections are accepted at a stretch while others
// wait for the processor.
const acceptBatch = 64

// key tells listeners apart: two that ask for any port of the same address are
// two.
func (l *listener) key() string {
	switch {
	case l.forward:
		return forwardName(config.TCP, l.address)
	case l.tls:
		return "https " + l.address
	}
	return "http " + l.address
}

// kind is what the listener is for.
func (l *listener) kind() telemetry.Kind {
	switch {
	case l.forward:
		return telemetry.TCP
	case l.tls:
		return telemetry.HTTPS
	}
	return telemetry.HTTP
}

// listeners are the bound sockets of the process.
type listeners struct {
	mu     sync.Mutex
	bound  map[string]*listener // by key
	loop   *socket.Loop
	given  []*socket.Listener       // from systemd, not taken yet
	ending map[string]chan struct{} // by address; closed when the socket is that a reload gave up
	own    atomic.Pointer[[]netip.AddrPort]
	local  machine
	conns  sync.WaitGroup
	serve  func(ctx context.Context, s *socket.Socket, from *listener)
	intake func(ctx context.Context) *proxy.Intake // of the connections of a TLS listener
}

// open binds what a configuration wants and is not bound yet. Nothing is kept
// of it when one address fails.
func (l *listeners) open(c *config.Config) (fresh []*listener, err error) {
	defer func() {
		if err != nil {
			l.discard(fresh)
			fresh = nil
		}
	}()
	for _, want := range wanted(c) {
		if l.bound[want.key()] != nil {
			continue
		}
		if gone := l.ending[want.address]; gone != nil {
			<-gone // in a moment, see Quiesce
		}
		if want.l = l.take(want.address); want.l == nil {
			if want.l, err = socket.Listen(want.address); err != nil {
				return fresh, err
			}
			want.l.UseLoop(l.loop)
		}
		fresh = append(fresh, want)
	}
	l.setOwn(fresh)
	return fresh, nil
}

// discard undoes open.
func (l *listeners) discard(fresh []*listener) {
	for _, f := range fresh {
		f.l.Close()
	}
	l.setOwn(nil)
}

// setOwn says which addresses are ours, those that are about to be included.
func (l *listeners) setOwn(fresh []*listener) {
	var own []netip.AddrPort
	for _, b := range l.bound {
		own = append(own, b.l.Addr())
	}
	for _, f := range fresh {
		own = append(own, f.l.Addr())
	}
	l.own.Store(&own)
}

// take finds a socket from systemd for a configured address; nil for none.
func (l *listeners) take(address string) *socket.Listener {
	host, port, _ := net.SplitHostPort(address)
	for i, g := range l.given {
		a := g.Addr()
		same := host == "" && a.Addr().IsUnspecified() || host == a.Addr().Unmap().String()
		if same && port == strconv.Itoa(int(a.Port())) {
			l.given = slices.Delete(l.given, i, i+1)
			return g
		}
	}
	return nil
}

func wanted(c *config.Config) (all []*listener) {
	for _, a := range c.Listen.HTTP {
		all = append(all, &listener{address: a, done: make(chan struct{})})
	}
	for _, a := range c.Listen.HTTPS {
		all = append(all, &listener{address: a, tls: true, done: make(chan struct{})})
	}
	for _, f := range c.Forwards {
		if f.Protocol == string(config.TCP) {
			all = append(all, &listener{address: f.Listen, forward: true, done: make(chan struct{})})
		}
	}
	return all
}

// adopt starts what open bound and stops what the configuration dropped.
func (l *listeners) adopt(ctx context.Context, c *config.Config, fresh []*listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	keep := make(map[string]bool)
	for _, w := range wanted(c) {
		keep[w.key()] = true
	}
	maps.DeleteFunc(l.ending, func(_ string, gone chan struct{}) bool {
		select {
		case <-gone:
			return true
		default:
			return false
		}
	})
	for key, b := range l.bound {
		if !keep[key] {
			delete(l.bound, key)
			gone := make(chan struct{})
			l.ending[b.address] = gone
			l.conns.Go(func() { b.close(); close(gone) })
		}
	}
	for _, f := range fresh {
		l.bound[f.key()] = f
		go l.accept(ctx, f)
	}
	l.setOwn(nil)
}

// accept is the accept loop of one listener.
func (l *listeners) accept(ctx context.Context, b *listener) {
	defer close(b.done)
	begin := func(s *socket.Socket) func() { return func() { l.serve(ctx, s, b) } }
	if b.tls {
		begin = l.intake(ctx).Take
	}
	for n := 1; ; n++ {
		s, err := b.l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		if rest := begin(s); rest != nil {
			l.conns.Go(rest)
		}
		if n%acceptBatch == 0 {
			runtime.Gosched() // what was accepted has its turn
		}
	}
}

// close stops accepting, once what had begun was accepted.
func (l *listeners) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var closing sync.WaitGroup
	for key, b := range l.bound {
		delete(l.bound, key)
		closing.Go(b.close)
	}
	closing.Wait()
}

// close stops a listener without losing a connection that had begun.
func (b *listener) close() {
	b.l.Quiesce()
	b.l.Close()
	<-b.done
}

// listening is what is bound, for the status.
func (l *listeners) listening() (all []admin.Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.bound {
		all = append(all, admin.Listener{Kind: b.kind().String(), Address: b.l.Addr().String(), Connections: int(b.l.Open())})
	}
	slices.SortFunc(all, func(a, b admin.Listener) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// bindAs tells the UDP address that belongs to a configured https address: the
// same, with the port that TCP got where any was asked for.
func (l *listeners) bindAs(fresh []*listener) func(configured string) string {
	return func(configured string) string {
		host, _, _ := net.SplitHostPort(configured)
		w := listener{address: configured, tls: true}
		b := l.bound[w.key()]
		for _, f := range fresh {
			if f.key() == w.key() {
				b = f
			}
		}
		return net.JoinHostPort(host, strconv.Itoa(int(b.l.Addr().Port())))
	}
}

// addresses are the real addresses of the listeners of one kind, bound or
// about to be.
func (l *listeners) addresses(kind telemetry.Kind, fresh []*listener, c *config.Config) (out []netip.AddrPort) {
	for _, w := range wanted(c) {
		if w.kind() != kind {
			continue
		}
		if b := l.bound[w.key()]; b != nil {
			out = append(out, b.l.Addr())
		}
	}
	for _, f := range fresh {
		if f.kind() == kind {
			out = append(out, f.l.Addr())
		}
	}
	return out
}

// has reports whether an address is one of our own listeners.
func (l *listeners) has(a netip.AddrPort) bool {
	own := l.own.Load()
	if own == nil {
		return false
	}
	for _, o := range *own {
		if o.Port() == a.Port() && (o.Addr().Unmap() == a.Addr() || o.Addr().IsUnspecified() && l.local.has(a.Addr())) {
			return true
		}
	}
	return false
}
