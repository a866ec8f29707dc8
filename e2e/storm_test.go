package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestReloadStorm: the file is saved and taken many times under load. No
// request fails; what is unhealthy stays so without being asked again, who is
// drained stays drained, and visitors stay at their VMs.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	vms, p := named(t, "one", "two", "three")
	sick := peer.ListenAt(t, rig.FreePort(t, rig.LoopbackIP()), peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		return l.Say("HTTP/1.1 503 Sick\r\nContent-Length: 0\r\n\r\n")
	}))
	body := func(n int) string {
		return fmt.Sprintf(`[defaults]
http = "forward"
[vms]
one = %[1]q
two = %[2]q
three = %[3]q
[sites]
"a.test" = { to = ["http://one:%[4]s", "http://two:%[4]s", "http://three:%[4]s"], sticky = true, response_head = "%[6]ds" }
"sick.test" = { to = ["http://%[5]s", "http://one:%[4]s"], health = { path = "/up", host = "up", status = "200-399", interval = "1h", fall = 1 }, response_head = "%[6]ds" }
"extra%[6]d.test" = "http://two:%[4]s"
`, ip(vms[0].Addr), ip(vms[1].Addr), ip(vms[2].Addr), p, sick.Addr, 100+n)
	}
	u := builds.Start(t, rig.Config{Body: body(0)})
	become(t, u, sick.Addr, "unhealthy")
	command(t, u, "drain", "three")
	var group sync.WaitGroup
	var asked atomic.Int64
	stop := make(chan struct{})
	for range 8 {
		c := u.Dial()
		first := c.Get("a.test", "/")
		cookie, _, _ := strings.Cut(first.Header.Get("Set-Cookie"), ";")
		home := string(first.Body)
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r := c.Get("a.test", "/", "Cookie: "+cookie); string(r.Body) != home || home == "three" {
					t.Errorf("a visitor of %s came to %q, %d", home, r.Body, r.Status)
					return
				}
				if r := c.Get("sick.test", "/"); string(r.Body) != "one" {
					t.Errorf("beside a sick VM: %d %q", r.Status, r.Body)
					return
				}
				asked.Add(2)
			}
		})
	}
	for n := range 12 {
		before := asked.Load()
		u.Reload(body(n + 1))
		if v := vmStates(t, u); v[sick.Addr].Health != "unhealthy" || !v[vms[2].Addr].Machine.Drained {
			t.Errorf("after reload %d: %+v, %+v", n, v[sick.Addr], v[vms[2].Addr])
		}
		rig.Eventually(t, "the load goes on", func() bool { return asked.Load() > before+10 || t.Failed() })
	}
	close(stop)
	group.Wait()
	if n := len(sick.Requests()); n != 1 {
		t.Errorf("the sick VM was asked %d times, not once", n)
	}
	t.Logf("%d requests during 12 reloads", asked.Load())
}

// TestSlowStart: a VM that comes back has a small part of its share at first.
func TestSlowStart(t *testing.T) {
	t.Parallel()
	vms, _ := named(t, "one", "two")
	body := fmt.Sprintf(`[defaults]
http = "forward"
slow_start = "1h"
health = { type = "tcp", interval = "100ms", fall = 1, rise = 1 }
[sites]
"a.test" = ["http://%s", "http://%s"]
`, vms[0].Addr, vms[1].Addr)
	u := builds.Start(t, rig.Config{Body: body})
	become(t, u, vms[0].Addr, "healthy")
	become(t, u, vms[1].Addr, "healthy")
	if seen := shares(u.Dial(), "a.test", 400, nil); !near(seen["one"], 400, .5) {
		t.Errorf("at the start: %v", seen)
	}
	vms[0].Down()
	become(t, u, vms[0].Addr, "unhealthy")
	vms[0].Up()
	become(t, u, vms[0].Addr, "starting slowly")
	if seen := shares(u.Dial(), "a.test", 1000, nil); !near(seen["one"], 1000, .1/1.1) {
		t.Errorf("when it came back: %v", seen)
	}
	fresh := peer.Listen(t, peer.Name("fresh"))
	u.Reload(strings.Replace(body, `"]`, fmt.Sprintf(`", "http://%s"]`, fresh.Addr), 1))
	become(t, u, fresh.Addr, "starting slowly")
	if seen := shares(u.Dial(), "a.test", 1000, nil); seen["fresh"] == 0 || seen["fresh"] > 200 {
		t.Errorf("a new one: %v", seen)
	}
}
