package h2

import (
	"io"
	"time"
)

// requestBody is the body of a client's request; it implements message.Body.
type requestBody exchange

// Read returns io.EOF together with the last bytes where it can.
func (b *requestBody) Read(p []byte) (int, error) {
	e := (*exchange)(b)
	start := time.Time{}
	e.m.mu.Lock()
	e.limits = e.ex.Timeouts
	if e.recv.size == 0 {
		start = time.Now()
	}
	e.m.mu.Unlock()
	n, err := e.read(p)
	e.ex.Trace.Received += int64(n)
	var waited time.Duration
	if !start.IsZero() {
		waited = time.Since(start)
	}
	e.m.mu.Lock()
	if !e.answered {
		e.patience.Arrived(n, waited)
	}
	if n > 0 || err == io.EOF {
		e.expects = false // whoever sends does not wait
	}
	e.m.mu.Unlock()
	return n, err
}

// Stop makes a Read, also one that waits, fail with err. The window of what the
// client still sends is not renewed.
func (b *requestBody) Stop(err error) { b.stream.stop(err) }

// Resume takes Stop back, for a request that is sent again. Nobody may be in
// Read.
func (b *requestBody) Resume() { b.stream.resume() }

// Ready reports whether Read has something to return without waiting.
func (b *requestBody) Ready() bool { return b.stream.ready() }

// Buffered is how many bytes, at least, Read can return without waiting.
func (b *requestBody) Buffered() int { return b.stream.buffered() }

// Untouched reports that nothing was read yet, so that the request may be sent
// to another VM.
func (b *requestBody) Untouched() bool {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	return !b.touched
}
