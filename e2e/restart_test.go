package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestOnlyVMIsRestartedUnderPOSTs: requests that may not be sent twice fail
// only if the VM may have begun them, and then say so.
func TestOnlyVMIsRestartedUnderPOSTs(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		<-time.After(time.Millisecond) // its work
		return l.Say(peer.Text(string(q.Body)))
	}))
	u := start(t, `[defaults]
http = "forward"
[sites]
"a.test" = "http://%s"`, vm.Addr)
	stop := make(chan struct{})
	var group sync.WaitGroup
	var mu sync.Mutex
	count := map[int]int{}
	for w := range 16 {
		c := u.Dial()
		group.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%04d-%05d", w, n)
				c.Send(fmt.Sprintf("POST /%s HTTP/1.1\r\nHost: a.test\r\nContent-Length: %d\r\n\r\n%s", id, len(id), id))
				p := c.Response("POST")
				mu.Lock()
				count[p.Status]++
				mu.Unlock()
				if p.Status != 200 && p.Status != 502 || p.Status == 200 && string(p.Body) != id {
					t.Errorf("%s: %d %.100q", id, p.Status, p.Body)
				}
			}
		})
	}
	answered := func() int {
		mu.Lock()
		defer mu.Unlock()
		return count[200]
	}
	for range 3 {
		n := answered()
		rig.Eventually(t, "the load goes on", func() bool { return answered() > n+200 })
		vm.Down()
		<-time.After(500 * time.Millisecond) // the length of the outage
		vm.Up()
	}
	n := answered()
	rig.Eventually(t, "the load goes on", func() bool { return answered() > n+200 })
	close(stop)
	group.Wait()
	seen := map[string]int{}
	for _, q := range vm.Requests() {
		seen[q.Target]++
	}
	for id, times := range seen {
		if times > 1 {
			t.Errorf("POST %s came to the VM %d times", id, times)
		}
	}
	for _, l := range u.Lines(t) {
		if l.Number("status") == 502 && seen[l.Text("path")] == 0 && l.Text("reason") == "" {
			t.Errorf("failed without a reason: %v", l)
		}
	}
	t.Logf("%v", count)
}
