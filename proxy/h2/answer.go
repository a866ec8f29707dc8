package h2

import (
	"context"
	"io"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// maxInterim is how many 1xx may come before a final response.
const maxInterim = 64

// head takes a response head, interim or final. mu is held.
func (c *Call) head(b *block) (http2.ErrCode, error) {
	c.answered = true
	var r message.Response
	if b.section.Size > cap(c.arena) || c.interim > 0 {
		c.arena = make([]byte, 0, b.section.Size)
	}
	r.Header = c.response.Header
	if c.interim > 0 {
		r.Header = message.Header{}
	}
	var err error
	if c.arena, err = fields.Response(&b.section, c.arena[:0], &r); err != nil {
		return http2.ErrCodeProtocol, err
	}
	switch {
	case r.Status == 101:
		return http2.ErrCodeProtocol, errSwitched
	case r.Status < 200:
		return http2.ErrCodeProtocol, c.continued(r, b.end)
	}
	return http2.ErrCodeProtocol, c.final(r, b.end)
}

// continued keeps an interim head for RoundTrip.
func (c *Call) continued(r message.Response, end bool) error {
	if c.interim++; c.interim > maxInterim || end {
		return errInterim
	}
	c.response.Header = message.Header{}
	r.Length = 0
	c.interims = append(c.interims, r)
	c.readable.Signal()
	return nil
}

// final takes the final head. The declared length of a response that has no
// body says nothing of DATA.
func (c *Call) final(r message.Response, end bool) error {
	bodiless := string(c.ex.Request.Method) == "HEAD" || r.Status == 304 || r.Status == 204
	if end && !bodiless && r.Length > 0 {
		return fields.ErrMismatch
	}
	c.response, c.got = r, true
	switch {
	case bodiless:
		c.left = 0
	default:
		c.left = r.Length
	}
	if end && !bodiless || r.Status == 204 {
		c.response.Length = 0
	}
	if end {
		c.end()
	}
	c.readable.Signal()
	return nil
}

// trailers takes the trailer section. mu is held.
func (c *Call) trailers(b *block) (http2.ErrCode, error) {
	switch {
	case c.ended:
		return http2.ErrCodeStreamClosed, errStreamDone
	case !b.end:
		return http2.ErrCodeProtocol, errTrailer
	case c.left > 0:
		return http2.ErrCodeProtocol, fields.ErrMismatch
	}
	if err := fields.Trailer(&b.section, &c.trailer); err != nil {
		return http2.ErrCodeProtocol, err.Err
	}
	c.end()
	return 0, nil
}

// responseBody is the body of a VM's response; it implements message.Body.
type responseBody Call

// Read returns io.EOF together with the last bytes where it can. The trailers
// are in the Response then.
func (b *responseBody) Read(p []byte) (int, error) {
	c := (*Call)(b)
	n, err := c.read(p)
	if err == io.EOF {
		t := &c.ex.Response.Trailer
		if t.Len() == 0 {
			for _, f := range c.trailer.All() {
				t.AddField(f.ID, f.Name, f.Value)
			}
		}
	}
	return n, err
}

// Stop makes a Read, also one that waits, fail with err.
func (b *responseBody) Stop(err error) { b.stream.stop(err) }

// Ready reports whether Read has something to return without waiting.
func (b *responseBody) Ready() bool { return b.stream.ready() }

// Buffered is how many bytes, at least, Read can return without waiting.
func (b *responseBody) Buffered() int { return b.stream.buffered() }

// resetBy is the VM's RST_STREAM. mu is held.
func (c *Call) resetBy(code http2.ErrCode) {
	e := broken(502, resetCode(code))
	e.Replay = code == http2.ErrCodeRefusedStream
	c.fail(e)
}

// resetCode is why a VM reset a stream.
type resetCode http2.ErrCode

func (r resetCode) Error() string { return "the VM reset the stream: " + http2.ErrCode(r).String() }

// blame makes a fault in what the VM sent the VM's.
func (c *Call) blame(why error) error {
	if e, ok := why.(*message.Error); ok {
		why = e.Err
	}
	return broken(502, why)
}

// tick ends a call whose VM is silent for too long, and asks for after once
// the client should be watched. mu is held.
func (c *Call) tick(now time.Time) (after bool) {
	if !c.got && c.mute(now) {
		c.m.abandon(&c.stream, http2.ErrCodeCancel, broken(504, errSilent))
		return false
	}
	return now.Sub(c.head0) >= callTick/2
}

// mute reports whether the VM has been silent, or has not read, for too long.
func (c *Call) mute(now time.Time) bool {
	if over(c.writeSince, now, c.silent) {
		return true
	}
	theirs := !c.uploading || c.ex.Request.ExpectContinue && !c.moved
	return theirs && over(c.upEnded, now, c.silent)
}

// after has the client watched, once for each call.
func (c *Call) after() {
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	if !c.active || c.watching {
		return
	}
	c.watching = true
	m, number := &c.conn.mux, c.number.Load()
	leave := func() { c.clientLeft(m, number) }
	c.unwatch = context.AfterFunc(c.ctx, leave)
	c.ex.Stream.Watch(leave)
}

// clientLeft is told that the client of an exchange has gone. It may come when
// the call has ended and is another exchange's, on another connection.
func (c *Call) clientLeft(m *mux, number uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.number.Load() == number {
		m.abandon(&c.stream, http2.ErrCodeCancel, clientGone())
		m.kick()
	}
}

// leave ends the watch over the client.
func (c *Call) leave() {
	c.watchMu.Lock()
	defer c.watchMu.Unlock()
	c.active = false
	if c.watching {
		c.watching = false
		c.ex.Stream.Watch(nil)
		c.unwatch()
	}
}
