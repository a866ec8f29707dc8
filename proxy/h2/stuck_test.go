package h2

import (
	"context"
	"net"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// pipe is a wire on fake time: one end of a net.Pipe with the write timeout of
// a socket.
type pipe struct {
	net.Conn
	mu      sync.Mutex
	timeout time.Duration
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.timeout > 0 {
		p.SetWriteDeadline(time.Now().Add(p.timeout))
	}
	p.mu.Unlock()
	return p.Conn.Write(b)
}

func (p *pipe) SetWriteTimeout(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = d
}

func (p *pipe) CloseLinger(int64, time.Duration) error { return p.Close() }

// TestVMThatReadsNothing: its calls, also those that wait to begin, end.
func TestVMThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		p := &pipe{Conn: near}
		cc := newClientConn(p, p)
		start := time.Now()
		err := cc.Run(context.Background())
		if took := time.Since(start); err == nil || took > time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
	})
}

// TestCallOnAConnectionThatEnded must not wait for room in an output that
// nobody writes any more.
func TestCallOnAConnectionThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer far.Close()
		p := &pipe{Conn: near}
		cc := newClientConn(p, p)
		call := open(t, cc)
		cc.out.Write(make([]byte, maxOut))
		cc.end(errDone, cc.lost)
		err := call.RoundTrip(context.Background(), exchangeFor("POST", "/", nil, 0), 0)
		if s, _, replay := blamed(err); s != message.VMSide || !replay {
			t.Error(err)
		}
		call.Finish()
		near.Close()
	})
}

// TestTunnelIsNotAResponse: how long it may stand still is the tunnel's own
// limit.
func TestTunnelIsNotAResponse(t *testing.T) {
	stands, looked := make(chan *exchange), make(chan struct{})
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		key, _ := ex.Request.Header.Get(message.SecWebSocketKey)
		ex.Response.Header.AddString("Sec-WebSocket-Accept", string(fields.Acceptance(key)))
		ex.Response.Status = 101
		ex.Stream.WriteHead(&ex.Response)
		d, _ := ex.Stream.Upgrade()
		var writing sync.WaitGroup
		writing.Go(func() { d.Write(make([]byte, 100)) })
		stands <- ex.Stream.(*exchange)
		<-looked
		writing.Wait()
		d.CloseWrite()
		d.Close()
	})
	p := client(t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	p.headers(1, false, append([]string{":protocol", "websocket"}, append(replace(":method", "CONNECT"), "sec-websocket-version", "13")...)...)
	e := <-stands
	for waits := false; !waits; runtime.Gosched() {
		e.m.mu.Lock()
		if waits = !e.writeSince.IsZero(); waits {
			e.tick(time.Now().Add(time.Hour))
		}
		e.m.mu.Unlock()
	}
	close(looked)
	p.fr.WriteWindowUpdate(1, 100)
	if r := p.await(1); r.reset != nil || len(r.body) != 100 {
		t.Errorf("%+v", r)
	}
}

// TestFieldsOfOneHopStayThere, spelled as HTTP/2 allows them.
func TestFieldsOfOneHopStayThere(t *testing.T) {
	cc, p := fake(t)
	ex := exchangeFor("GET", "/", nil, 0)
	call, done := begin(t, cc, ex, 0)
	p.headers(p.request().StreamID, true, ":status", "200", "proxy-authenticate", "x", "proxy-authorization", "y", "z", "1")
	if err := <-done; err != nil || ex.Response.Header.Len() != 1 {
		t.Error(err, ex.Response.Header.All())
	}
	call.Finish()
}
