package e2e

import (
	"crypto/tls"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"

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
	if moved < 60 || moved > 140 { // of 300 a third, give or take nearly five standard deviations
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
