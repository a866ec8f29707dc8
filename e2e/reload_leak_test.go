package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// footprint is what a process holds.
type footprint struct {
	goroutines, descriptors int
	heap                    int // bytes
}

// footprintOf asks /metrics, and /proc for descriptors.
func footprintOf(t testing.TB, u *rig.Usher, metrics string) (f footprint) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	p, err := c.Get("http://" + metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Body.Close()
	for lines := bufio.NewScanner(p.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch name {
		case "go_goroutines":
			f.goroutines = int(n)
		case "go_memstats_heap_alloc_bytes":
			f.heap = int(n)
		}
	}
	if f.goroutines == 0 || f.heap == 0 {
		t.Fatalf("/metrics says %+v", f)
	}
	f.descriptors = descriptors(t, u)
	return f
}

// least is the smallest of each of some footprints: what is garbage or in
// passing is not in all of them.
func least(t testing.TB, u *rig.Usher, metrics string) footprint {
	t.Helper()
	low := footprintOf(t, u, metrics)
	for range 40 {
		<-time.After(50 * time.Millisecond)
		f := footprintOf(t, u, metrics)
		low = footprint{min(low.goroutines, f.goroutines), min(low.descriptors, f.descriptors), min(low.heap, f.heap)}
	}
	return low
}

// settled reports whether a process holds about what it did before.
func settled(before, after footprint) bool {
	return after.goroutines <= before.goroutines+5 && after.descriptors <= before.descriptors+5 && after.heap <= before.heap+before.heap/4
}

// manySites have nothing but pools of their own, so that what stays of those is
// seen.
const manySites = 100

// churn is the configuration of TestReloadsLeaveNothing, another one for each
// i; all serve the same.
type churn struct {
	t                                     testing.TB
	metrics, tcp, udp, sni, late          string // where usher listens
	one, two, found, local, udpVM, secure string // where VMs do
}

func (c *churn) body(i int) string {
	pick := func(all ...string) string { return all[i%len(all)] }
	var b strings.Builder
	fmt.Fprintf(&b, "[metrics]\nlisten = %q\n[defaults]\nhttp = \"forward\"\nhold = \"%ds\"\n[vms]\n", c.metrics, 10+i%7)
	fmt.Fprintf(&b, "one = { address = %q, max_conns = %d, health = { interval = \"%dms\" }, start = \"true\", stop = \"true\", idle_stop = \"%dh\", restart = \"false\" }\n",
		ip(c.one), 100+i%3, 100+i%11, 1+i%5)
	fmt.Fprintf(&b, "found = { discover = { source = \"exec\", command = [\"echo\", %q, \"#\", \"%d\"], interval = \"100ms\" }, start = %q }\n", ip(c.found), i%4, pick("true", "echo"))
	if i%3 != 0 {
		fmt.Fprintf(&b, "gone = { discover = { source = \"exec\", command = \"sleep %d\" }, start = \"true\" }\n", 20+i%2)
	}
	b.WriteString("[sites]\n")
	fmt.Fprintf(&b, "\"app.test\" = { to = [\"http://one:%s\", \"http://%s\"], balance = %s, sticky = %s, adaptive_concurrency = %s, slow_start = \"%ds\" }\n", port(c.one), c.two,
		pick(`"random2"`, `"round_robin"`, `"least_conn"`, `"ip_hash"`, `{ header = "X-User" }`, `{ cookie = "sid" }`), pick("true", "false"), pick("false", "true", "false"), i%4)
	fmt.Fprintf(&b, "\"found.test\" = \"http://found:%s\"\n", port(c.found))
	fmt.Fprintf(&b, "\"name.test\" = { to = \"http://%s.localhost:%s\", health = { path = \"/\", interval = \"%dms\" } }\n", pick("a", "b", "a"), port(c.local), 100+i%5)
	fmt.Fprintf(&b, "\"lost.test\" = [\"http://lost%d.invalid\", \"http://_http._tcp.lost%d.invalid\"]\n", i%4, i%5)
	fmt.Fprintf(&b, "\"pass.test\" = { to = [\"passthrough://%s\"], health = %s }\n", c.secure, pick("true", "false"))
	if i%3 != 0 {
		fmt.Fprintf(&b, "\"gone.test\" = \"http://gone:%d\"\n", 80+i%2)
	}
	for n := range manySites {
		fmt.Fprintf(&b, "\"s%d.test\" = { to = [\"http://found:%s\", \"http://%s\", \"http://s.localhost:%s\"], slow_start = \"%dms\" }\n", n, port(c.found), c.two, port(c.local), 1+n)
	}
	port := func(listen, protocol, rest string) {
		fmt.Fprintf(&b, "[[forward]]\nlisten = %q\nprotocol = %q\n%s\n", listen, protocol, rest)
	}
	port(c.tcp, "tcp", fmt.Sprintf("to = [%q, %q]\nbalance = %s", c.one, c.two, pick(`"random2"`, `"least_conn"`)))
	port(c.udp, "udp", fmt.Sprintf("to = [%q]\ntunnel_idle = \"%ds\"", c.udpVM, 1+i%2))
	port(c.sni, "tcp", fmt.Sprintf("sni = { \"raw.test\" = %q, \"pass.test\" = \"passthrough://%s\" }", "tcp://"+c.one, c.secure))
	if i%2 != 0 {
		port(c.late, "udp", fmt.Sprintf("to = [%q]", c.udpVM))
		port(c.late, "tcp", fmt.Sprintf("to = [%q]", c.two))
	}
	return b.String()
}

// keepAsking asks for each host again and again until stop, which says what went
// wrong.
func keepAsking(u *rig.Usher, hosts ...string) (stop func() []string) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var mu sync.Mutex
	var wrong []string
	for _, host := range hosts {
		group.Go(func() {
			n := 0
			dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", u.HTTP)
			}
			c := http.Client{Transport: &http.Transport{DialContext: dial}, Timeout: 20 * time.Second}
			defer c.CloseIdleConnections()
			for ; ctx.Err() == nil; n++ {
				p, err := c.Get(fmt.Sprintf("http://%s/%d", host, n))
				if err == nil {
					p.Body.Close()
					if p.StatusCode == 200 {
						<-time.After(3 * time.Millisecond)
						continue
					}
					err = fmt.Errorf("status %d", p.StatusCode)
				}
				mu.Lock()
				wrong = append(wrong, fmt.Sprintf("%s, request %d: %v", host, n, err))
				mu.Unlock()
			}
		})
	}
	return func() []string {
		cancel()
		group.Wait()
		return wrong
	}
}

// TestReloadsLeaveNothing: after thirty reloads that change backends, checks,
// discovery, hooks and raw ports, under load, usher holds what it did before,
// and no request has failed.
func TestReloadsLeaveNothing(t *testing.T) {
	t.Parallel()
	vms, _ := named(t, "one", "two", "found")
	ca := peer.NewCA(t)
	c := &churn{
		t: t, metrics: rawPort(t), tcp: rawPort(t), udp: rawPort(t), sni: rawPort(t), late: rawPort(t),
		one: vms[0].Addr, two: vms[1].Addr, found: vms[2].Addr, local: peer.Listen(t, peer.Name("local")).Addr,
		udpVM: newUDPVM(t, "u", rawPort(t)).addr, secure: peer.ListenTLS(t, ca.Server("pass.test"), peer.Name("pass")).Addr,
	}
	u := builds.Start(t, rig.Config{Body: c.body(0), Env: []string{"GOGC=10"}, Plain: true})
	through := peer.Dial(t, u.HTTPS)
	hello := &tls.Config{ServerName: "pass.test", RootCAs: ca.Pool}
	tunnel, err := through.Handshake(hello)
	if err != nil {
		t.Fatal(err)
	}
	held := udpClient(t, "", c.udp) // one session that is never idle
	round := func(i int) {
		u.Reload(c.body(i))
		if p := tunnel.Get("pass.test", "/"); string(p.Body) != "pass" {
			t.Errorf("reload %d: the tunnel says %q", i, p.Body)
		}
		held.ask("still here")
		udpClient(t, "", c.udp).ask("hello")
		plain := u.Dial()
		for n := range manySites { // pools begin with their first request
			plain.Get(fmt.Sprintf("s%d.test", n), "/")
		}
		plain.Close()
		raw := peer.Dial(t, c.tcp)
		if p := raw.Get("raw.test", "/"); p.Status != 200 {
			t.Errorf("reload %d: the raw port: %d", i, p.Status)
		}
		raw.Close()
		if named, err := peer.Dial(t, c.sni).Handshake(hello); err != nil {
			t.Errorf("reload %d: by server name: %v", i, err)
		} else {
			named.Close()
		}
	}
	stop := keepAsking(u, "app.test", "found.test", "name.test", "s7.test")
	for i := range 4 { // what is made once is there afterwards
		round(i + 1)
	}
	round(0)
	before := least(t, u, c.metrics)
	for i := range 30 {
		round(i + 1)
	}
	round(0)
	after := least(t, u, c.metrics)
	for end := time.Now().Add(20 * time.Second); !settled(before, after) && time.Now().Before(end); {
		after = least(t, u, c.metrics) // what was replaced ends in its own time
	}
	if !settled(before, after) {
		t.Errorf("before the reloads %+v, afterwards %+v", before, after)
	}
	t.Logf("before %+v, after %+v", before, after)
	for _, w := range stop() {
		t.Error(w)
	}
	if left, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", u.PID())); len(strings.Fields(string(left))) > 3 {
		t.Errorf("children: %s", left)
	}
}
