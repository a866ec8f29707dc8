package upstream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/message"
)

// limited is a pool of n backends of which each takes one at a time.
func limited(t *testing.T, n, queue int) *Pool {
	s := some(n)
	for i := range s.Addresses {
		s.Addresses[i].MaxConns = 1
	}
	s.Queue, s.QueueTimeout = queue, 5*time.Second
	return pool(t, s, Dialer{})
}

func asks(sticky *Backend) *wish { return &wish{sticky: sticky, now: time.Now().UnixNano()} }

// TestQueueIsFair serves those who wait in their order, when somebody leaves.
func TestQueueIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limited(t, 2, 10)
		var busy []*Backend
		for range 2 {
			b, err := p.assign(context.Background(), nil, asks(nil))
			if err != nil {
				t.Fatal(err)
			}
			busy = append(busy, b)
		}
		served := make(chan int, 5)
		for i := range 5 {
			go func() {
				b, err := p.assign(context.Background(), nil, asks(nil))
				if err != nil {
					t.Error(err)
				}
				served <- i
				time.Sleep(time.Second)
				b.leave()
			}()
			synctest.Wait()
		}
		if p.Waiting() != 5 || len(served) != 0 {
			t.Fatalf("%d wait", p.Waiting())
		}
		busy[0].leave()
		for i := range 5 {
			if got := <-served; got != i {
				t.Errorf("%d was served when it was the turn of %d", got, i)
			}
		}
		busy[1].leave()
		time.Sleep(time.Minute)
		for _, b := range p.Backends() {
			if b.active.Load() != 0 {
				t.Errorf("%d are left on %s", b.active.Load(), b)
			}
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limited(t, 1, 2)
		b, _ := p.assign(context.Background(), nil, asks(nil))
		refused := make(chan *message.Error, 2)
		start := time.Now()
		for range 2 {
			go func() {
				_, err := p.assign(context.Background(), nil, asks(nil))
				refused <- err
			}()
		}
		synctest.Wait()
		if _, err := p.assign(context.Background(), nil, asks(nil)); err == nil || err.Err != errQueueFull || err.Status != 503 || err.RetryAfter == 0 {
			t.Errorf("the third got %v", err)
		}
		for range 2 {
			if err := <-refused; err == nil || err.Err != errQueueTimeout || err.RetryAfter == 0 || time.Since(start) != 5*time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
		b.leave()
		if b, err := p.assign(context.Background(), nil, asks(nil)); err != nil {
			t.Error(err)
		} else {
			b.leave()
		}
	})
}

// TestQueueOfASession waits for its own backend, and others pass it by.
func TestQueueOfASession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limited(t, 2, 10)
		mine, other := p.Backends()[0], p.Backends()[1]
		mine.enter()
		other.enter()
		got := make(chan *Backend, 2)
		for _, sticky := range []*Backend{mine, nil} {
			go func() {
				b, _ := p.assign(context.Background(), nil, asks(sticky))
				got <- b
			}()
			synctest.Wait()
		}
		other.leave()
		if b := <-got; b != other {
			t.Error("the session moved")
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Error("the session did not wait")
		}
		mine.leave()
		if b := <-got; b != mine {
			t.Error("the session moved")
		}
	})
}

// TestQueuedClientsLeave without taking a place with them.
func TestQueuedClientsLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := limited(t, 1, 10)
		b, _ := p.assign(context.Background(), nil, asks(nil))
		left, done := &client{}, make(chan *message.Error, 1)
		go func() {
			_, err := p.assign(context.Background(), left, asks(nil))
			done <- err
		}()
		synctest.Wait()
		left.leave()
		if err := <-done; err == nil || err.Side != message.ClientSide {
			t.Errorf("got %v", err)
		}
		b.leave()
		if b.active.Load() != 0 || p.Waiting() != 0 {
			t.Errorf("%d active, %d waiting", b.active.Load(), p.Waiting())
		}
	})
}

// TestQueueSeesNewBackends serves whoever waits when a name gets an address.
func TestQueueSeesNewBackends(t *testing.T) {
	dns := &book{}
	dns.set("vm.test", at("192.0.2.1"))
	s := spec(Address{Host: "vm.test", Port: 80, MaxConns: 1})
	s.Queue = 10
	p := pool(t, s, Dialer{Names: dns})
	p.assign(context.Background(), nil, asks(nil))
	got := make(chan *Backend, 1)
	go func() {
		b, _ := p.assign(context.Background(), nil, asks(nil))
		got <- b
	}()
	waitFor(t, func() bool { return p.Waiting() == 1 })
	dns.set("vm.test", at("192.0.2.1"), at("192.0.2.2"))
	if b := <-got; b != p.Backends()[1] {
		t.Errorf("got %v", b)
	}
}

// TestShedding answers 503 at once what is beyond the limit found.
func TestShedding(t *testing.T) {
	s := some(2)
	s.Adaptive = true
	p := pool(t, s, Dialer{})
	for range 2 * limitFirst {
		if _, err := p.assign(context.Background(), nil, asks(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.assign(context.Background(), nil, asks(nil)); err == nil || err.Err != errShed || err.Status != 503 || err.RetryAfter == 0 {
		t.Errorf("got %v", err)
	}
}

// TestPoolsShareTheLimitOfAVM, and those that wait take turns.
func TestPoolsShareTheLimitOfAVM(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(Dialer{})
		var pools []*Pool
		for i := range 2 {
			s := some(1)
			s.Addresses[0].VMConns, s.Queue, s.Hold = 2, 10, time.Duration(i)
			p, err := set.Plan().Pool(s)
			if err != nil {
				t.Fatal(err)
			}
			pools = append(pools, p)
		}
		for _, p := range pools {
			if _, err := p.assign(t.Context(), nil, asks(nil)); err != nil {
				t.Fatal(err)
			}
		}
		served := make(chan int, 6)
		for n := range 6 {
			go func() {
				b, err := pools[n%2].assign(t.Context(), nil, asks(nil))
				if err != nil {
					t.Error(err)
				}
				served <- n % 2
				time.Sleep(time.Second)
				b.leave()
			}()
			synctest.Wait()
		}
		if len(served) != 0 || pools[0].Waiting() != 3 || pools[1].Waiting() != 3 {
			t.Fatalf("%d and %d wait", pools[0].Waiting(), pools[1].Waiting())
		}
		pools[0].Backends()[0].leave() // from now on one at a time
		count := [2]int{}
		for n := range 6 {
			count[<-served]++
			if n == 3 && (count[0] == 0 || count[1] == 0) {
				t.Errorf("the first four were %v of each pool", count)
			}
		}
		time.Sleep(time.Minute)
		g := pools[0].Backends()[0].gate
		if g != pools[1].Backends()[0].gate || g.active.Load() != 1 || g.awaited.Load() != 0 {
			t.Errorf("%d active, %d queues wait", g.active.Load(), g.awaited.Load())
		}
		for _, p := range pools {
			p.Retire()
		}
		if len(set.network.gates) != 0 {
			t.Error("a gate is left")
		}
	})
}

// TestQueueOfARetiredPool: whoever waits when a reload replaces the pool gets the
// room that is made in the pool that came after.
func TestQueueOfARetiredPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		set := NewSet(Dialer{})
		var pools []*Pool
		for i := range 2 {
			s := some(1)
			s.Addresses[0].VMConns, s.Queue, s.QueueTimeout, s.Hold = 1, 10, 5*time.Second, time.Duration(i)
			p, err := set.Plan().Pool(s)
			if err != nil {
				t.Fatal(err)
			}
			pools = append(pools, p)
		}
		first, err := pools[1].assign(t.Context(), nil, asks(nil))
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			go func() {
				b, err := pools[0].assign(t.Context(), nil, asks(nil))
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				b.leave()
			}()
		}
		synctest.Wait()
		pools[0].Retire()
		first.leave()
		synctest.Wait()
		if n := pools[0].Waiting(); n != 1 {
			t.Errorf("%d still wait", n)
		}
		time.Sleep(time.Minute)
		pools[1].Retire()
		if len(set.network.gates) != 0 {
			t.Error("a gate is left")
		}
	})
}

// TestNoQueue refuses at once what is beyond the limit.
func TestNoQueue(t *testing.T) {
	p := limited(t, 1, 0)
	p.assign(t.Context(), nil, asks(nil))
	if _, err := p.assign(t.Context(), nil, asks(nil)); err == nil || err.Err != errQueueFull {
		t.Errorf("got %v", err)
	}
}
