package socket

import (
	"sync"
	"testing"
)

// TestCrewWaitsForNobody has tasks that all wait for the last of them: each
// gets a goroutine, whatever the others do.
func TestCrewWaitsForNobody(t *testing.T) {
	c := &running(t).crew
	for _, crowd := range []bool{false, true} {
		c.loop.crowd.Store(crowd)
		const n = 100
		var all, done sync.WaitGroup
		all.Add(n)
		done.Add(n)
		for range n {
			c.run(resumer(func(bool) {
				all.Done()
				all.Wait()
				done.Done()
			}), true)
		}
		done.Wait()
	}
}

// TestCrewLosesNothing has tasks that bring others, from many goroutines.
func TestCrewLosesNothing(t *testing.T) {
	c := &running(t).crew
	c.loop.crowd.Store(true)
	var done sync.WaitGroup
	for range 8 {
		done.Go(func() {
			var own sync.WaitGroup
			for range 500 {
				own.Add(2)
				c.run(resumer(func(bool) {
					c.run(resumer(func(bool) { own.Done() }), true)
					own.Done()
				}), true)
			}
			own.Wait()
		})
	}
	done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tasks) != 0 || c.first != 0 {
		t.Errorf("%d tasks wait", len(c.tasks)-c.first)
	}
}

// TestCrewForgets has a queue that is never empty: it stays as long as what
// waits in it.
func TestCrewForgets(t *testing.T) {
	c := &running(t).crew
	c.starting = true // nobody is called
	const n = 10
	for i := range 1000 {
		c.run(resumer(func(bool) {}), true)
		if i >= n {
			c.next(new(hand))
		}
	}
	if len(c.tasks)-c.first != n || cap(c.tasks) > 8*n {
		t.Errorf("%d tasks wait in room for %d", len(c.tasks)-c.first, cap(c.tasks))
	}
}
