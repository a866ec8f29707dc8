package peer

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/e2e/strict"
)

// Script is what a VM does with one connection; the connection is closed when
// it returns.
type Script func(*Link)

// VM is a scripted machine behind usher. It keeps what reached it.
type VM struct {
	Addr string // host:port, or a path

	t      testing.TB
	script Script
	tls    *tls.Config
	done   sync.WaitGroup

	mu       sync.Mutex
	l        net.Listener
	links    map[*Link]bool
	accepted int
	requests []*strict.Request
	faults   []error
	broken   int           // requests whose body was cut by the end of the connection
	changed  chan struct{} // closed and replaced when anything above changes
}

// Link is one connection that a VM accepted.
type Link struct {
	net.Conn
	R  *bufio.Reader
	N  int // its number, from 1
	VM *VM
}

// Listen starts a VM on a free loopback port.
func Listen(t testing.TB, s Script) *VM { return start(t, "127.0.0.1:0", nil, s) }

// ListenAt starts a VM at an address.
func ListenAt(t testing.TB, addr string, s Script) *VM { return start(t, addr, nil, s) }

// ListenTLS starts a VM that speaks TLS.
func ListenTLS(t testing.TB, conf *tls.Config, s Script) *VM {
	return start(t, "127.0.0.1:0", conf, s)
}

// ListenUnix starts a VM on a Unix socket.
func ListenUnix(t testing.TB, path string, s Script) *VM { return start(t, path, nil, s) }

func start(t testing.TB, addr string, conf *tls.Config, s Script) *VM {
	t.Helper()
	v := &VM{Addr: addr, t: t, script: s, tls: conf, links: map[*Link]bool{}, changed: make(chan struct{})}
	v.Up()
	t.Cleanup(v.Down)
	return v
}

// Up listens, again at the same address after Down.
func (v *VM) Up() {
	v.t.Helper()
	network := "tcp"
	if strings.HasPrefix(v.Addr, "/") {
		network = "unix"
	}
	l, err := net.Listen(network, v.Addr)
	if err != nil {
		v.t.Fatal(err)
	}
	v.Addr = l.Addr().String()
	v.mu.Lock()
	v.l = l
	v.mu.Unlock()
	v.done.Go(func() { v.accept(l) })
}

// Down stops listening, breaks every connection and waits for their scripts.
func (v *VM) Down() {
	v.mu.Lock()
	if v.l != nil {
		v.l.Close()
	}
	for l := range v.links {
		l.Close()
	}
	v.mu.Unlock()
	v.done.Wait()
}

func (v *VM) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		v.done.Go(func() { v.serve(c) })
	}
}

func (v *VM) serve(c net.Conn) {
	raw := c
	defer raw.Close()
	if v.tls != nil {
		tc := tls.Server(c, v.tls)
		if err := tc.Handshake(); err != nil {
			return
		}
		c = tc
	}
	link := &Link{Conn: c, R: bufio.NewReader(c), VM: v}
	v.change(func() {
		v.accepted++
		link.N = v.accepted
		v.links[link] = true
	})
	v.script(link)
	raw.Close() // before it counts as closed
	v.change(func() { delete(v.links, link) })
}

func (v *VM) change(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
	close(v.changed)
	v.changed = make(chan struct{})
}

// Request reads and records one whole request. A deviation from RFC 9112 is
// recorded as a fault; a connection that ends, between requests or in the
// middle of a body, is visible for what it is and so is none.
func (l *Link) Request() (*strict.Request, error) {
	q, err := strict.ReadRequestHead(l.R)
	if err == nil {
		err = q.ReadBody(l.R)
		if ended(err) {
			l.VM.change(func() { l.VM.broken++ })
			return q, err
		}
	}
	l.VM.record(q, err)
	return q, err
}

// RequestHead reads and records a request without its body.
func (l *Link) RequestHead() (*strict.Request, error) {
	q, err := strict.ReadRequestHead(l.R)
	l.VM.record(q, err)
	return q, err
}

func (v *VM) record(q *strict.Request, err error) {
	v.change(func() {
		switch {
		case err == nil:
			v.requests = append(v.requests, q)
		case err != io.EOF && !isNet(err):
			v.faults = append(v.faults, err)
		}
	})
}

func ended(err error) bool { return err == io.ErrUnexpectedEOF || isNet(err) }

func isNet(err error) bool {
	_, ok := err.(net.Error)
	return ok
}

// Say writes bytes; a client that has gone is the script's to notice by ok.
func (l *Link) Say(s string) (ok bool) {
	_, err := io.WriteString(l.Conn, s)
	return err == nil
}

// Requests is what came so far.
func (v *VM) Requests() []*strict.Request {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]*strict.Request(nil), v.requests...)
}

// Faults is every deviation from RFC 9112 that was seen so far.
func (v *VM) Faults() []error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return append([]error(nil), v.faults...)
}

// Broken is how many requests began and were cut in their body.
func (v *VM) Broken() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.broken
}

// Accepted is how many connections came.
func (v *VM) Accepted() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.accepted
}

// Open is how many connections there are now.
func (v *VM) Open() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.links)
}

// Wait waits until n requests were recorded and returns the n-th.
func (v *VM) Wait(n int) *strict.Request {
	v.t.Helper()
	v.until("a request", func() bool { return len(v.requests) >= n })
	return v.Requests()[n-1]
}

// WaitOpen waits until exactly n connections are open.
func (v *VM) WaitOpen(n int) {
	v.t.Helper()
	v.until("connections", func() bool { return len(v.links) == n })
}

func (v *VM) until(what string, ok func() bool) {
	v.t.Helper()
	deadline := time.After(Patience)
	for {
		v.mu.Lock()
		done, changed := ok(), v.changed
		v.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			v.t.Fatalf("VM %s waited in vain for %s (%d requests, %d connections open, faults %v)", v.Addr, what, len(v.Requests()), v.Open(), v.Faults())
		}
	}
}
