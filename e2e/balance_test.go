package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// near reports whether a count differs from a share of all by at most 5 % of
// all.
func near(count, all int, share float64) bool {
	d := float64(count)/float64(all) - share
	return d <= .05 && d >= -.05
}

// TestBalanceMethods: each method keeps to its weights, or its visitors to
// their VM.
func TestBalanceMethods(t *testing.T) {
	t.Parallel()
	vms, _ := named(t, "one", "two", "three")
	one, two, three := vms[0].Addr, vms[1].Addr, vms[2].Addr
	u := builds.Start(t, rig.Config{Listen: `trusted_proxies = ["127.0.0.0/8"]`, Body: fmt.Sprintf(`[defaults]
http = "forward"
[sites]
"rr.test" = { to = ["http://%[1]s", { to = "http://%[2]s", weight = 3 }], balance = "round_robin" }
"random.test" = { to = ["http://%[1]s", { to = "http://%[2]s", weight = 3 }, { to = "http://%[3]s", weight = 0 }] }
"ip.test" = { to = ["http://%[1]s", "http://%[2]s", "http://%[3]s"], balance = "ip_hash" }
"header.test" = { to = ["http://%[1]s", { to = "http://%[2]s", weight = 3 }], balance = { header = "X-User" } }
"cookie.test" = { to = ["http://%[1]s", "http://%[2]s"], balance = { cookie = "sid" } }
"backup.test" = { to = ["http://%[1]s", { to = "http://%[2]s", backup = true }] }
`, one, two, three)})
	c := u.Dial()
	if seen := shares(c, "rr.test", 400, nil); seen["one"] != 100 || seen["two"] != 300 {
		t.Errorf("round_robin: %v", seen)
	}
	if seen := shares(c, "random.test", 4000, nil); !near(seen["two"], 4000, .75) || seen["one"]+seen["two"] != 4000 {
		t.Errorf("random2: %v", seen)
	}
	if seen := shares(c, "header.test", 2000, func(i int) string { return fmt.Sprintf("X-User: visitor %d", i) }); !near(seen["two"], 2000, .75) || len(seen) != 2 {
		t.Errorf("header: %v", seen)
	}
	if seen := shares(c, "header.test", 20, func(int) string { return "X-User: me" }); len(seen) != 1 {
		t.Errorf("header, one value: %v", seen)
	}
	if seen := shares(c, "cookie.test", 400, func(i int) string { return fmt.Sprintf("Cookie: a=b; sid=%d; c=d", i) }); !near(seen["two"], 400, .5) && len(seen) != 2 {
		t.Errorf("cookie: %v", seen)
	}
	if seen := shares(c, "cookie.test", 20, func(i int) string { return fmt.Sprintf("Cookie: other=%d; sid=me", i) }); len(seen) != 1 {
		t.Errorf("cookie, one value: %v", seen)
	}
	if seen := shares(c, "backup.test", 50, nil); seen["one"] != 50 {
		t.Errorf("backup, while all is well: %v", seen)
	}

	const clients = 300
	before := homes(c, clients)
	command(t, u, "drain", ip(three))
	after, moved := homes(c, clients), 0
	for client, home := range before {
		if after[client] != home {
			moved++
			if home != "three" {
				t.Errorf("%s moved from %s, which stayed, to %s", client, home, after[client])
			}
		}
		if after[client] == "three" {
			t.Errorf("%s is still sent to a drained VM", client)
		}
	}
	if moved == 0 || !near(moved, clients, 1./3) {
		t.Errorf("%d of %d clients moved when one VM of three left", moved, clients)
	}
	command(t, u, "undrain", ip(three))
	if again := homes(c, clients); !maps.Equal(again, before) {
		t.Error("not every client is back at its VM")
	}

	vms[0].Down()
	if seen := shares(c, "backup.test", 50, nil); seen["two"] != 50 {
		t.Errorf("backup, while the other is down: %v", seen)
	}
	vms[0].Up()
	rig.Eventually(t, "the VM before the backup has the work again", func() bool {
		return shares(c, "backup.test", 5, nil)["one"] == 5
	})
}

// homes is which VM each of n client addresses comes to.
func homes(c *peer.Client, n int) map[string]string {
	all := make(map[string]string)
	for i := range n {
		client := fmt.Sprintf("198.51.%d.%d", i/250, i%250)
		all[client] = string(c.Get("ip.test", "/", "X-Forwarded-For: "+client).Body)
	}
	return all
}

// TestPassthroughByClient: a client address keeps its VM over tunnels.
func TestPassthroughByClient(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	conf := ca.Server("pass.test")
	one, two := peer.ListenTLS(t, conf, peer.Name("one")), peer.ListenTLS(t, conf, peer.Name("two"))
	u := start(t, `[sites]
"pass.test" = { to = ["passthrough://%s", "passthrough://%s"], balance = "ip_hash" }`, one.Addr, two.Addr)
	seen := make(map[string]int)
	for range 20 {
		from, home := rig.LoopbackIP(), ""
		for range 3 {
			c, err := peer.DialFrom(t, from, u.HTTPS).Handshake(&tls.Config{ServerName: "pass.test", RootCAs: ca.Pool})
			if err != nil {
				t.Fatal(err)
			}
			at := string(c.Get("pass.test", "/").Body)
			if home != "" && at != home {
				t.Errorf("%s came to %s, then to %s", from, home, at)
			}
			home = at
			c.Close()
		}
		seen[home]++
	}
	if len(seen) != 2 {
		t.Errorf("20 clients are all at one VM: %v", seen)
	}
}

// stuck is a VM that answers with its name, but requests of /stuck only when
// it is told.
func stuck(t *testing.T, name string) (vm *peer.VM, waiting *atomic.Int64, release func()) {
	t.Helper()
	gate, waiting := make(chan struct{}), new(atomic.Int64)
	release = sync.OnceFunc(func() { close(gate) })
	vm = peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		if q.Target == "/stuck" {
			waiting.Add(1)
			<-gate
		}
		return l.Say(peer.Text(name))
	}))
	t.Cleanup(release)
	return vm, waiting, release
}

// TestLeastConn: the one that is busy gets nothing while another is idle.
func TestLeastConn(t *testing.T) {
	t.Parallel()
	one, atOne, release1 := stuck(t, "one")
	two, atTwo, release2 := stuck(t, "two")
	u := start(t, `[defaults]
http = "forward"
[sites]
"least.test" = { to = ["http://%s", "http://%s"], balance = "least_conn" }`, one.Addr, two.Addr)
	busy := u.Dial()
	busy.Send(peer.Get("least.test", "/stuck"))
	rig.Eventually(t, "it is at a VM", func() bool { return atOne.Load()+atTwo.Load() == 1 })
	idle := map[int64]string{1: "two", 0: "one"}[atOne.Load()]
	if seen := shares(u.Dial(), "least.test", 50, nil); seen[idle] != 50 {
		t.Errorf("the idle one is %s: %v", idle, seen)
	}
	release1()
	release2()
	if p := busy.Response("GET"); p.Status != 200 {
		t.Errorf("the one that took long: %d", p.Status)
	}
}

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
"a.test" = ["http://%s", "http://%s"]`, vms[0].Addr, vms[1].Addr)
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
		vms[0].Up()
		rig.Eventually(t, "a probe lets it in again", func() bool { return shares(c, "a.test", 5, nil)["one"] > 0 })
	}
	t.Logf("the longest of 20 requests after a kill, best of five kills: %v", best)
	if best > 50*time.Millisecond {
		t.Error("over 50 ms")
	}
}
