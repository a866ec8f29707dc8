package h2

import (
	"context"
	"io"
	"math"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/socket"
)

// ClientConn is one connection to a VM, for many calls at once.
type ClientConn struct {
	mux
	greeted chan struct{} // closed with the VM's first SETTINGS
	over    chan struct{} // closed when nothing is read any more

	// Guarded by mux.mu.
	nextID    uint32
	reserved  int    // calls that have no stream yet
	allowed   uint32 // the VM's SETTINGS_MAX_CONCURRENT_STREAMS
	connects  bool   // the VM takes extended CONNECT (RFC 8441)
	goneAfter uint32 // the VM handles no stream above; MaxUint32 before its GOAWAY
	leaving   bool   // no more calls
}

// maxCalls is how many calls a connection takes at once if the VM does not say
// less.
const maxCalls = 250

// unreadLimit is how long a VM may take nothing of what is written to it. Every
// peer has to read frames, whatever its streams do (RFC 9113 section 5.2.2).
const unreadLimit = 20 * time.Second

// NewClientConn prepares a connection. rw is s itself or the TLS connection
// over it. It does no I/O: Run has to be called.
func NewClientConn(rw io.ReadWriter, s *socket.Socket) *ClientConn { return newClientConn(rw, s) }

func newClientConn(rw io.ReadWriter, w wire) *ClientConn {
	c := &ClientConn{nextID: 1, allowed: maxStreams, goneAfter: math.MaxUint32, greeted: make(chan struct{}), over: make(chan struct{})}
	c.lenient = true
	c.init(rw, w, c)
	w.SetWriteTimeout(unreadLimit)
	c.out.Write([]byte(http2.ClientPreface))
	c.fr.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: initialWindow},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: fields.MaxSize},
	)
	c.fr.WriteWindowUpdate(0, connWindow-defaultWindow)
	c.credit = connWindow
	return c
}

// Run reads frames until the VM or Close ends the connection, or ctx ends, and
// closes it. It may start after the first call. nil is an orderly end.
func (c *ClientConn) Run(ctx context.Context) error {
	unlink := context.AfterFunc(ctx, func() { c.Close() })
	c.mu.Lock()
	c.flush()
	c.mu.Unlock()
	err := c.read()
	c.end(err, c.lost)
	close(c.over)
	unlink()
	c.farewell(0, err)
	c.owned.Wait()
	if err == errDone || err == io.EOF {
		return nil
	}
	return err
}

// Greeted waits, while Run runs, for the VM's first SETTINGS: only they say how
// many calls it takes, and that it speaks HTTP/2 at all. The error is that of
// ctx, or io.ErrUnexpectedEOF if the connection has ended.
func (c *ClientConn) Greeted(ctx context.Context) error {
	select {
	case <-c.greeted:
		return nil
	case <-c.over:
		return io.ErrUnexpectedEOF
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lost is the error of a call whose connection ended. mu is held.
func (c *ClientConn) lost(s *stream) error {
	call, ok := s.owner.(*Call)
	e := broken(502, errCut)
	e.Replay = !ok || s.id == 0 || s.id > c.goneAfter || call.headBatch == c.batch
	return e
}

// Open reserves one of the calls that the VM allows, or reports false: it
// allows no more now, or the connection takes none any more.
func (c *ClientConn) Open() (*Call, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.available() {
		return nil, false
	}
	c.reserved++
	return takeCall(c), true
}

// Available reports whether Open would succeed.
func (c *ClientConn) Available() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.available()
}

func (c *ClientConn) available() bool {
	calls := int(c.busy.Load()) + c.reserved
	return c.usable() && calls < int(min(c.allowed, maxCalls))
}

// Usable reports whether the connection will take further calls, if not now
// then once others have ended.
func (c *ClientConn) Usable() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.usable()
}

func (c *ClientConn) usable() bool {
	return c.dead == nil && c.stopping == nil && !c.leaving && c.nextID < math.MaxInt32
}

// keeps reports whether a call that was reserved can begin. Our own Drain does
// not hinder it, the VM's GOAWAY does (RFC 9113 section 6.8). mu is held.
func (c *ClientConn) keeps() bool {
	return c.dead == nil && c.stopping == nil && c.goneAfter == math.MaxUint32 && c.nextID < math.MaxInt32
}

// Calls is how many calls are open or reserved.
func (c *ClientConn) Calls() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return int(c.busy.Load()) + c.reserved
}

// Drain makes the connection take no more calls and end with the last one. What
// Open has reserved counts.
func (c *ClientConn) Drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	c.rested()
}

// Close ends the connection with all its calls. It may be called from any
// goroutine; Run returns then.
func (c *ClientConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	c.stop(errDone)
	return nil
}

// rested ends a connection that takes no more calls and has none. mu is held.
func (c *ClientConn) rested() {
	if c.leaving && c.busy.Load() == 0 && c.reserved == 0 {
		c.stop(errDone)
	}
}

// release takes back what Open reserved. mu is held.
func (c *ClientConn) release() {
	c.reserved--
	c.rested()
}

// headers takes a header block of the VM's: a response head or trailers.
func (c *ClientConn) headers(b *block) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[b.id]
	if s == nil {
		return c.stray(b.id)
	}
	call := s.owner.(*Call)
	var code http2.ErrCode
	var why error
	if call.got {
		code, why = call.trailers(b)
	} else {
		code, why = call.head(b)
	}
	if why != nil {
		return c.induce(b.id, code, why)
	}
	return nil
}

// setting takes the limits of the VM. mu is held.
func (c *ClientConn) setting(s http2.Setting) error {
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		c.allowed = s.Val
	case http2.SettingEnableConnectProtocol:
		c.connects = s.Val == 1
	}
	return nil
}

// applied: mu is held.
func (c *ClientConn) applied() {
	select {
	case <-c.greeted:
	default:
		close(c.greeted)
	}
}

// goneAway: calls above last were not processed and may be made elsewhere
// (RFC 9113 section 6.8). mu is held.
func (c *ClientConn) goneAway(last uint32) {
	c.leaving = true
	c.goneAfter = min(c.goneAfter, last)
	for id, s := range c.streams {
		if id > last {
			e := broken(502, errGoneAway)
			e.Replay = true
			s.fail(e)
			c.remove(s)
		}
	}
	c.rested()
}

// idle: a VM opens no streams, and answers only those that we opened.
func (c *ClientConn) idle(id uint32) bool { return id >= c.nextID || id%2 == 0 }

func (c *ClientConn) pinged() {}

func (c *ClientConn) removed(*stream) { c.rested() }

func (c *ClientConn) reprioritised(uint32, string) {}

// tick is called while there are calls. mu is held.
func (c *ClientConn) tick(time.Time) time.Duration {
	if c.busy.Load() == 0 {
		return 0
	}
	return callTick
}
