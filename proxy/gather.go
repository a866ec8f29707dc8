package proxy

import (
	"crypto/tls"
	"sync"

	"usher/proxy/socket"
)

// gathering is the TLS connection of a client. crypto/tls makes a system call
// for every record, of which a young connection has small ones: here all
// records of one Write leave together.
type gathering struct {
	*tls.Conn
	out  *gather
	sent int // bytes given to Write
}

const (
	// youngRecord is the least that crypto/tls puts into a record of a
	// connection that has sent less than youngBytes.
	youngRecord = 1 << 10
	youngBytes  = 256 << 10
	fullRecord  = 16 << 10
)

// newGathering prepares the server's side of TLS.
func newGathering(in *socket.Records, config *tls.Config) *gathering {
	out := &gather{Records: in}
	return &gathering{Conn: tls.Server(out, config), out: out}
}

// Write returns when everything is written. One goroutine may write.
func (t *gathering) Write(p []byte) (int, error) {
	single := youngRecord
	if t.sent >= youngBytes {
		single = fullRecord
	}
	if len(p) <= single {
		t.sent += len(p)
		return t.Conn.Write(p)
	}
	n, err := t.WriteBuffers(p)
	return int(n), err
}

// WriteBuffers writes the buffers one after the other, as Write does.
func (t *gathering) WriteBuffers(bufs ...[]byte) (n int64, err error) {
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	t.sent += size
	t.out.hold(size)
	for _, b := range bufs {
		if err == nil && len(b) > 0 {
			var m int
			m, err = t.Conn.Write(b)
			n += int64(m)
		}
	}
	if e := t.out.flush(); err == nil && e != nil {
		n, err = 0, e
	}
	return n, err
}

// gather is a connection that can hold back what is written to it.
type gather struct {
	*socket.Records
	mu      sync.Mutex
	holding bool
	held    []byte
	err     error // of a write after which a record may be incomplete
}

// Room for the records of 64 KiB, and of all that is written at once to a
// client that keeps up.
const (
	gathered      = 64<<10 + 1<<10
	gatheredSwift = swiftBuffer + 8<<10
)

var (
	gatherPool = sync.Pool{New: func() any { return new([gathered]byte) }}
	swiftPool  = sync.Pool{New: func() any { return new([gatheredSwift]byte) }}
)

// hold keeps back what is written from now on, n bytes before they were sealed,
// as far as there is room.
func (g *gather) hold(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.holding = true
	if n > longBuffer+fullRecord {
		g.held = swiftPool.Get().(*[gatheredSwift]byte)[:0]
	} else {
		g.held = gatherPool.Get().(*[gathered]byte)[:0]
	}
}

// flush writes what was held back, and holds nothing back any more.
func (g *gather) flush() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.writeHeld()
	g.holding = false
	if cap(g.held) == gathered {
		gatherPool.Put((*[gathered]byte)(g.held[:gathered]))
	} else {
		swiftPool.Put((*[gatheredSwift]byte)(g.held[:gatheredSwift]))
	}
	g.held = nil
	return g.err
}

// writeHeld makes room. mu is held.
func (g *gather) writeHeld() {
	if g.err == nil && len(g.held) > 0 {
		_, g.err = g.Records.Write(g.held)
	}
	g.held = g.held[:0]
}

// Write implements net.Conn for crypto/tls.
func (g *gather) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.holding && len(g.held)+len(p) > cap(g.held) {
		g.writeHeld()
	}
	switch {
	case g.err != nil:
		return 0, g.err
	case g.holding && len(p) <= cap(g.held):
		g.held = append(g.held, p...)
		return len(p), nil
	}
	n, err := g.Records.Write(p)
	g.err = err
	return n, err
}
