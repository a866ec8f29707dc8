package h3

import (
	"context"
	"io"
	"time"

	"github.com/quic-go/quic-go"

	"usher/proxy/message"
)

// fake is a stream with a request on it that takes every answer.
type fake struct {
	in      []byte
	step    int // bytes for each Read
	written int
	rank    rank // as it was set
}

func (f *fake) Read(p []byte) (int, error) {
	if len(f.in) == 0 {
		return 0, io.EOF
	}
	if f.step > 0 && len(p) > f.step {
		p = p[:f.step]
	}
	n := copy(p, f.in)
	f.in = f.in[n:]
	return n, nil
}

func (f *fake) Write(p []byte) (int, error) {
	f.written += len(p)
	return len(p), nil
}

func (f *fake) Close() error                     { return nil }
func (f *fake) Context() context.Context         { return context.Background() }
func (f *fake) SetReadDeadline(time.Time) error  { return nil }
func (f *fake) SetWriteDeadline(time.Time) error { return nil }
func (f *fake) CancelRead(quic.StreamErrorCode)  {}
func (f *fake) CancelWrite(quic.StreamErrorCode) {}
func (f *fake) SetPriority(u int8, i bool)       { f.rank = rank{u, i} }
func (f *fake) StreamID() quic.StreamID          { return 0 }
func (f *fake) ReleaseStreamCredit()             {}

// bare is a connection without a network.
func bare(h message.Handler) *conn {
	done := make(chan struct{})
	close(done)
	c := &conn{
		config: &testConfig, client: &message.Client{TLS: true}, handler: h, ctx: context.Background(),
		handshake: done, limit: maxStreamID, end: func(quic.ApplicationErrorCode, string) {},
	}
	c.turn.L = &c.mu
	return c
}

// run serves one stream with b on it.
func (c *conn) run(f *fake) {
	c.mu.Lock()
	c.busy++
	c.budget.Open(time.Now())
	c.mu.Unlock()
	c.exchange(f)
}
