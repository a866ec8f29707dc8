package upstream

import (
	"bufio"
	"context"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"usher/proxy/socket"
)

// TestOldGenerationsAreForgotten: a pool that lives on over many reloads must
// not hold what else was in the generation that it came with.
func TestOldGenerationsAreForgotten(t *testing.T) {
	set, _ := NewSet(Dialer{}).Plan().Done()
	plan := set.Plan()
	keep, err := plan.Pool(spec(Address{Host: "127.0.0.1", Port: 1}))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := plan.Done()
	old := weak.Make(first)
	next := first.Plan()
	next.Keep(keep)
	set, _ = next.Done()
	plan, next, first = nil, nil, nil
	for range 3 {
		runtime.GC()
	}
	if old.Value() != nil {
		t.Error("the first generation is still held")
	}
	runtime.KeepAlive(keep)
	runtime.KeepAlive(set)
}

// TestNothingIsKeptAfterRetire has an exchange end just after its pool retired,
// past the look that Release has at it.
func TestNothingIsKeptAfterRetire(t *testing.T) {
	closed := make(chan struct{})
	v := newVM(t, "127.0.0.1:0", func(n int, c net.Conn, r *bufio.Reader) {
		serve(n, c, r)
		close(closed)
	})
	p := pool(t, spec(v.address()), Dialer{})
	ex := exchange("GET", "")
	l, err := p.RoundTrip(context.Background(), ex, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Retire()
	l.conn.vm.Finish()
	l.backend.put(l.conn, time.Now())
	<-closed
}

// TestWaitingForAConnectionIsBounded: those that wait for the one that opens an
// HTTP/2 connection share its time instead of adding to it.
func TestWaitingForAConnectionIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := spec(Address{Host: "192.0.2.1", Port: 80})
		s.HTTP2 = true
		p := pool(t, s, Dialer{Dial: func(ctx context.Context, _, _ string) (*socket.Socket, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		var group sync.WaitGroup
		var worst atomic.Int64
		for range 20 {
			group.Go(func() {
				begin := time.Now()
				if _, err := answer(t, p, exchange("GET", "")); err == nil {
					t.Error("an answer from nobody")
				}
				for took := int64(time.Since(begin)); ; {
					old := worst.Load()
					if took <= old || worst.CompareAndSwap(old, took) {
						return
					}
				}
			})
		}
		group.Wait()
		if got := time.Duration(worst.Load()); got > s.Hold+s.Connect {
			t.Errorf("a request took %v, more than hold and connect together", got)
		}
	})
}

func TestIdentifies(t *testing.T) {
	for value, want := range map[string]bool{
		"NTLM": true, "negotiate": true, "Negotiate oYG2==": true, `Basic realm="x", NTLM`: true,
		`Basic realm="a \", NTLM"`: false, `Basic realm="NTLM, Negotiate"`: false, "Negotiated": false, "": false, ", ,ntlm": true,
	} {
		if got := identifies([]byte(value)); got != want {
			t.Errorf("%q: %t", value, got)
		}
	}
}
