package e2e

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestNames: a name stands for all its addresses, which are followed when they
// change; while the resolver fails the last ones are kept; SRV records say port
// and weight; a name that does not resolve is that site's trouble alone.
func TestNames(t *testing.T) {
	t.Parallel()
	vms, p := named(t, "one", "two", "three")
	six := peer.ListenAt(t, net.JoinHostPort("::1", p), peer.Name("six"))
	one, two, three := vms[0].Addr, vms[1].Addr, vms[2].Addr
	both := []string{"web.lan. 1 A " + ip(one), "web.lan. 1 A " + ip(two), "six.lan. 1 AAAA ::1", "single.lan. 1 A " + ip(one),
		"_http._tcp.lan. 1 SRV 1 30 " + p + " a.lan.", "_http._tcp.lan. 1 SRV 1 10 " + p + " b.lan.", "_http._tcp.lan. 1 SRV 2 1 " + p + " c.lan.",
		"a.lan. 60 A " + ip(one), "b.lan. 60 A " + ip(two), "c.lan. 60 A " + ip(three)}
	z := rig.NewZone(t, both...)
	u := builds.Prepare(t, rig.Config{Body: fmt.Sprintf(`[defaults]
http = "forward"
hold = "1s"
[vms]
web = "web.lan"
[sites]
"a.test" = "http://web:%[1]s"
"six.test" = "http://six.lan:%[1]s"
"single.test" = "http://single.lan:%[1]s"
"srv.test" = "http://_http._tcp.lan"
"none.test" = "http://none.lan:%[1]s"
"mixed.test" = ["http://none.lan:%[1]s", "http://%[2]s"]
`, p, three)})
	u.Run(z.Wrap()...)
	u.WaitReady()
	c := u.Dial()
	rig.Eventually(t, "a name of two addresses is two backends", func() bool {
		seen := shares(c, "a.test", 20, nil)
		return seen["one"] > 0 && seen["two"] > 0 && len(seen) == 2
	})
	if seen := shares(c, "six.test", 5, nil); seen["six"] != 5 {
		t.Errorf("an IPv6 address: %v", seen)
	}
	if seen := shares(c, "srv.test", 2000, nil); !near(seen["one"], 2000, .75) || seen["three"] != 0 {
		t.Errorf("SRV records of weights 30 and 10, and a backup: %v", seen)
	}
	if r := c.Get("none.test", "/"); r.Status != 503 || r.Header.Get("Retry-After") == "" {
		t.Errorf("a name that there is not: %d", r.Status)
	}
	if v := vmStates(t, u)["none.lan:"+p]; v.Health != "unresolved" || !strings.Contains(v.Why, "no such name") {
		t.Errorf("usher vms: %+v", v)
	}
	if seen := shares(c, "mixed.test", 20, nil); seen["three"] != 20 {
		t.Errorf("another backend beside it: %v", seen)
	}

	z.Fail()
	asked := z.Asked()
	rig.Eventually(t, "names are asked for again", func() bool { return z.Asked() > asked+6 })
	if seen := shares(c, "a.test", 40, nil); len(seen) != 2 {
		t.Errorf("while the resolver fails: %v", seen)
	}
	moved := append([]string{"web.lan. 1 A " + ip(three), "single.lan. 1 A " + ip(three)}, both[2], both[4], both[5], both[6], both[7], both[8], both[9])
	z.Set(moved...)
	rig.Eventually(t, "the name has moved", func() bool { return shares(c, "a.test", 20, nil)["three"] == 20 })
	rig.Eventually(t, "no connection to an address that is gone", func() bool { return vms[0].Open() <= 2 }) // of srv.test
	six.Down()
}

// TestStartWithoutResolver: neither the start nor a reload waits for a resolver
// that does not answer, and a name is there once it does.
func TestStartWithoutResolver(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	z := rig.NewZone(t)
	z.Silence()
	body := fmt.Sprintf(`[defaults]
http = "forward"
[sites]
"fixed.test" = "http://%s"
"name.test" = { to = "http://web.lan:%s", hold = "20s" }
`, vm.Addr, port(vm.Addr))
	u := builds.Prepare(t, rig.Config{Body: body})
	if d := took(func() { u.Run(z.Wrap()...); u.WaitReady() }); d > 10*time.Second {
		t.Errorf("started in %v", d)
	}
	if p := u.Dial().Get("fixed.test", "/"); p.Status != 200 {
		t.Errorf("%d", p.Status)
	}
	if d := took(func() { u.Reload(body + "\"other.test\" = \"http://other.lan\"\n") }); d > 4*time.Second {
		t.Errorf("reloaded in %v", d)
	}
	waits := u.Dial()
	waits.Send(peer.Get("name.test", "/"))
	z.Set("web.lan. 60 A 127.0.0.1")
	if p := waits.Response("GET"); p.Status != 200 {
		t.Errorf("held until the name resolves: %d", p.Status)
	}
}
