package h2

import (
	"context"
	"io"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// TestCancelledBodyIsNotWhole: a request that was sent completely and is then
// cancelled must not look shorter to a VM than it was.
func TestCancelledBodyIsNotWhole(t *testing.T) {
	arrived, cancelled, failed := make(chan struct{}), make(chan struct{}), make(chan error, 2)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		body := ex.Request.Body.(*requestBody)
		io.ReadFull(body, make([]byte, 2))
		ex.Stream.Watch(func() { close(cancelled) })
		close(arrived)
		<-cancelled
		_, err := io.ReadAll(body)
		failed <- err
		body.Stop(errFinished)
		body.Resume()
		_, err = io.ReadAll(body)
		failed <- err
		ex.Stream.Watch(nil)
	})
	p := client(t, c)
	p.post(1)
	p.fr.WriteData(1, true, []byte("a whole body"))
	<-arrived
	p.fr.WriteRSTStream(1, http2.ErrCodeCancel)
	for range 2 {
		if e, ok := (<-failed).(*message.Error); !ok || e.Err != message.ErrClientGone {
			t.Errorf("the body ended with %v", e)
		}
	}
}

// TestExchangeIsNotUsedAfterAPanic: something of the handler's may still use
// it.
func TestExchangeIsNotUsedAfterAPanic(t *testing.T) {
	seen := make(map[*message.Exchange]bool)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		if seen[ex] {
			answer(ex, 200, nil)
			return
		}
		seen[ex] = true
		panic("on purpose")
	})
	p := client(t, c)
	for id := uint32(1); id < 60; id += 2 {
		p.get(id)
		if r := p.await(id); r.status != "500" {
			t.Fatalf("stream %d: %+v", id, r)
		}
	}
}

// TestPaceCountsWhatWasNotWaitedFor: the pace of a body is that of all its
// bytes, not only of those that ended a wait.
func TestPaceCountsWhatWasNotWaitedFor(t *testing.T) {
	first, judged := make(chan struct{}), make(chan bool, 1)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		body := ex.Request.Body.(*requestBody)
		io.ReadFull(body, make([]byte, 1))
		close(first)
		for body.Buffered() < 32_000 {
			runtime.Gosched()
		}
		io.ReadFull(body, make([]byte, 32_000))
		body.m.mu.Lock()
		now := time.Now()
		judged <- body.patience.Over(now, now.Add(31*time.Second), time.Minute)
		body.m.mu.Unlock()
		answer(ex, 200, nil)
	})
	p := client(t, c)
	p.post(1)
	p.fr.WriteData(1, false, []byte("x"))
	<-first
	p.fr.WriteData(1, false, make([]byte, 16_000))
	p.fr.WriteData(1, false, make([]byte, 16_000))
	if <-judged {
		t.Error("over 30 KiB in 31 s are too slow")
	}
	p.await(1)
}

// TestStoppedBodyIsResumed without a gap: another VM gets all of it.
func TestStoppedBodyIsResumed(t *testing.T) {
	stopped, arrived, got := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		body := ex.Request.Body.(*requestBody)
		io.ReadFull(body, make([]byte, 2))
		body.Stop(errFinished)
		if _, err := body.Read(make([]byte, 9)); err != errFinished {
			t.Errorf("Read after Stop: %v", err)
		}
		close(stopped)
		<-arrived
		body.Resume()
		rest, err := io.ReadAll(body)
		if err != nil {
			t.Error(err)
		}
		got <- string(rest)
		answer(ex, 200, nil)
	})
	p := client(t, c)
	p.post(1)
	p.fr.WriteData(1, false, []byte("hello, "))
	<-stopped
	p.fr.WriteData(1, true, []byte("world"))
	p.flushed()
	close(arrived)
	if rest := <-got; rest != "llo, world" {
		t.Errorf("after Resume the body was %q", rest)
	}
	p.await(1)
}

// flushed waits until the other end has handled all that was sent.
func (p *peer) flushed() {
	p.t.Helper()
	p.fr.WritePing(false, [8]byte{1})
	for {
		if f, ok := p.read().(*http2.PingFrame); ok && f.IsAck() {
			return
		}
	}
}

// TestEndNeedsNoWindow: a client that has used the default window before it
// saw ours may still say that its body has ended.
func TestEndNeedsNoWindow(t *testing.T) {
	arrived, got := make(chan struct{}), make(chan int, 1)
	_, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		<-arrived
		b, err := io.ReadAll(ex.Request.Body)
		if err != nil {
			t.Error(err)
		}
		got <- len(b)
		answer(ex, 200, nil)
	})
	p := newPeer(t, c)
	io.WriteString(c, http2.ClientPreface)
	p.fr.WriteSettings()
	p.post(1)
	for range 4 {
		p.fr.WriteData(1, false, make([]byte, 15_000))
	}
	p.fr.WriteSettingsAck()
	p.fr.WriteData(1, true, nil)
	p.flushed()
	close(arrived)
	if n := <-got; n != 60_000 {
		t.Errorf("%d bytes", n)
	}
	if r := p.await(1); r.status != "200" {
		t.Errorf("%+v", r)
	}
}
