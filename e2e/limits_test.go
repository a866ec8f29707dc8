package e2e

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestQueueAtALimit: requests beyond max_conns wait in order, as many and for
// as long as the file says; the limit of a VM is one for all sites.
func TestQueueAtALimit(t *testing.T) {
	t.Parallel()
	vm, waiting, release := stuck(t, "vm")
	u := start(t, `[defaults]
http = "forward"
[vms]
vm = { address = "%s", max_conns = 1 }
[sites]
"one.test" = { to = "http://vm:%s", queue = 1, queue_timeout = "1s" }
"two.test" = { to = "http://vm:%[2]s", queue = 0 }
"long.test" = { to = "http://vm:%[2]s", queue_timeout = "1m" }`, ip(vm.Addr), port(vm.Addr))
	first := u.Dial()
	first.Send(peer.Get("one.test", "/stuck"))
	rig.Eventually(t, "the VM is busy", func() bool { return waiting.Load() == 1 })
	long := u.Dial()
	long.Send(peer.Get("long.test", "/"))
	refused := func(c *peer.Client, host string) {
		t.Helper()
		p := c.Response("GET")
		if p.Status != 503 || p.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d, Retry-After %q", host, p.Status, p.Header.Get("Retry-After"))
		}
	}
	second, begun := u.Dial(), time.Now()
	second.Send(peer.Get("one.test", "/"))
	third := u.Dial()
	if d := took(func() { third.Send(peer.Get("two.test", "/")); refused(third, "two.test, without a queue") }); d > 900*time.Millisecond {
		t.Errorf("refused after %v", d)
	}
	refused(second, "one.test, after queue_timeout")
	if d := time.Since(begun); d < 900*time.Millisecond {
		t.Errorf("waited only for %v", d)
	}
	if n := waiting.Load(); n != 1 {
		t.Errorf("%d requests are at a VM that takes one", n)
	}
	release()
	for host, c := range map[string]*peer.Client{"first": first, "long": long} {
		if p := c.Response("GET"); p.Status != 200 {
			t.Errorf("%s: %d", host, p.Status)
		}
	}
}

// TestAdaptiveConcurrency: a VM that can do one thing at a time is not given
// everything at once, and what it gets it answers soon.
func TestAdaptiveConcurrency(t *testing.T) {
	t.Parallel()
	var one sync.Mutex
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		one.Lock()
		<-time.After(2 * time.Millisecond) // its work
		one.Unlock()
		return l.Say(peer.OK)
	}))
	u := start(t, `[defaults]
http = "forward"
[sites]
"a.test" = { to = "http://%s", adaptive_concurrency = true }`, vm.Addr)
	c := u.Dial()
	for range 50 { // what it can do without a queue
		c.Get("a.test", "/")
	}
	var shed, served atomic.Int64
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 40 {
		c := u.Dial()
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch p := c.Get("a.test", "/"); {
				case p.Status == 200:
					served.Add(1)
				case p.Status == 503 && p.Header.Get("Retry-After") != "":
					shed.Add(1)
					<-time.After(10 * time.Millisecond) // an unhurried client
				default:
					t.Errorf("%d", p.Status)
				}
			}
		})
	}
	rig.Eventually(t, "the limit shrinks", func() bool { return vmStates(t, u)[vm.Addr].Limit < 15 })
	close(stop)
	group.Wait()
	if shed.Load() == 0 || served.Load() == 0 {
		t.Errorf("%d served, %d shed", served.Load(), shed.Load())
	}
}

// TestRetryBudget: where every connection breaks, VMs are asked a fifth more
// often, not twice.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	broken := func(l *peer.Link) { l.Request() }
	one, two := peer.Listen(t, broken), peer.Listen(t, broken)
	u := start(t, `[timeouts]
hold = "0s"
[defaults]
http = "forward"
[sites]
"a.test" = { to = ["http://%s", "http://%s"], ejection = false, health = false }`, one.Addr, two.Addr)
	const n = 200
	c, reasons := u.Dial(), ""
	begun := time.Now()
	for range n {
		if p := c.Get("a.test", "/"); p.Status != 502 {
			t.Fatalf("%d", p.Status)
		}
	}
	allowed := n + n/5 + 10 + int(time.Since(begun)/time.Second) + 2
	if asked := len(one.Requests()) + len(two.Requests()); asked > allowed || asked < n+n/5 {
		t.Errorf("%d requests were sent to VMs as %d; %d are allowed", n, asked, allowed)
	}
	for _, l := range u.Lines(t) {
		reasons += l.Text("reason") + "\n"
	}
	if !strings.Contains(reasons, "too many requests fail") {
		t.Errorf("no line says that the budget is used up: %.300s", reasons)
	}
}

// TestEjection: a VM that answers nothing but 5xx is left out while another
// does better, and let in again by a probe; the last one never is.
func TestEjection(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	one := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		if sick.Load() {
			return l.Say("HTTP/1.1 500 Sick\r\nContent-Length: 0\r\n\r\n")
		}
		return l.Say(peer.Text("one"))
	}))
	two := peer.Listen(t, peer.Name("two"))
	u := start(t, `[defaults]
http = "forward"
[sites]
"a.test" = { to = ["http://%[1]s", "http://%[2]s"], health = false }
"in.test" = { to = ["http://%[1]s", "http://%[2]s"], health = false, ejection = false }
"last.test" = "http://%[1]s"`, one.Addr, two.Addr)
	sick.Store(true)
	c := u.Dial()
	shares(c, "a.test", 100, nil)
	if v := become(t, u, one.Addr, "ejected"); v.Why == "" || v.Ejections == 0 {
		t.Errorf("%+v", v)
	}
	if seen := shares(c, "a.test", 20, nil); seen["500"] > 1 { // a probe
		t.Errorf("while it is ejected: %v", seen)
	}
	if seen := shares(c, "in.test", 200, nil); seen["500"] < 50 {
		t.Errorf("ejection = false: %v", seen)
	}
	if p := c.Get("last.test", "/"); p.Status != 500 {
		t.Errorf("the only one: %d", p.Status)
	}
	sick.Store(false)
	rig.Eventually(t, "it is back", func() bool { return shares(c, "a.test", 10, nil)["one"] > 0 })
}

// TestFirstAnswerAfterAKill: visitors of a VM that is killed are answered by
// the other one at once.
func TestFirstAnswerAfterAKill(t *testing.T) {
	t.Parallel()
	vms, _ := named(t, "one", "two")
	u := start(t, `[defaults]
http = "forward"
[sites]
"a.test" = ["http://%[1]s", "http://%[2]s"]
"checks.test" = { to = ["http://%[1]s", "http://%[2]s"], ejection = false }`, vms[0].Addr, vms[1].Addr)
	c, best := u.Dial(), time.Hour
	for range 5 {
		shares(c, "a.test", 20, nil)
		vms[0].Down()
		longest := time.Duration(0)
		for range 20 {
			longest = max(longest, took(func() {
				if p := c.Get("a.test", "/"); string(p.Body) != "two" {
					t.Errorf("%d %q", p.Status, p.Body)
				}
			}))
		}
		best = min(best, longest)
		if d := took(func() { shares(c, "checks.test", 5, nil) }); d > 3*time.Second {
			t.Errorf("without ejection, five requests take %v", d)
		}
		vms[0].Up()
		rig.Eventually(t, "a probe lets it in again", func() bool { return shares(c, "a.test", 5, nil)["one"] > 0 })
	}
	t.Logf("the longest of 20 requests after a kill, best of five kills: %v", best)
	if best > 50*time.Millisecond {
		t.Error("over 50 ms")
	}
}
