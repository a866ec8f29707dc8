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
