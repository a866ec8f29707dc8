package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestSlowClients: hundreds of connections that dawdle in every way beside
// normal traffic, which does not notice, in bounded memory; and each of them
// is ended by its own limit.
func TestSlowClients(t *testing.T) {
	const each = 200
	large := []byte(peer.Text(strings.Repeat("x", 8<<20))) // more than all buffers between
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		if q.Target == "/large" {
			_, err := l.Write(large)
			return err == nil
		}
		return l.Say(peer.OK)
	}))
	u := builds.Start(t, rig.Config{Plain: true, Body: `[timeouts]
client_hello = "4s"
handshake = "4s"
request_head = "4s"
request_body = "4s"
response_write = "4s"
keep_alive = "4s"
[sites."aaaa.test"]
to = "http://` + vm.Addr + `"
http = "forward"`})
	u.TLS("aaaa.test").Close()
	quiet := latency(t, u)
	before := resident(t, u.PID())
	hello := string(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))
	kinds := map[string]struct{ addr, first, drip string }{
		"slow head":        {u.HTTP, "GET / HTTP/1.1\r\nHost: aaaa.test\r\n", "X-A: b\r\n"},
		"slow body":        {u.HTTP, "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 1000000\r\n\r\n", "x"},
		"slow chunks":      {u.HTTP, "POST / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"},
		"slow hello":       {u.HTTPS, hello[:50], hello[50:51]},
		"slow handshake":   {u.HTTPS, hello, ""},
		"idle after all":   {u.HTTP, "", ""},
		"idle on TLS":      {u.HTTPS, "", ""},
		"idle after one":   {u.HTTP, peer.Get("aaaa.test", "/"), ""},
		"does not read on": {u.HTTP, peer.Get("aaaa.test", "/large"), ""},
	}
	var all []*slow
	for kind, k := range kinds {
		n := each
		if kind == "does not read on" {
			n /= 4 // each fills the kernel's buffers
		}
		for range n {
			all = append(all, newSlow(t, kind, k.addr, k.first))
		}
	}
	for range 6 { // the drips are under any limit of idleness, not of time or rate
		for _, s := range all {
			s.Try(kinds[s.kind].drip)
		}
		busy := latency(t, u)
		if busy > 2*quiet+150*time.Millisecond {
			t.Errorf("normal requests take %v beside %d slow clients, %v without", busy, len(all), quiet)
		}
	}
	if grown := resident(t, u.PID()) - before; grown > int64(len(all))*64<<10 {
		t.Errorf("%d slow clients cost %d MiB", len(all), grown>>20)
	}
	left := map[string]int{}
	for _, s := range all {
		if !s.ended(40 * time.Second) {
			left[s.kind]++
		}
	}
	if len(left) > 0 {
		t.Errorf("still there: %v", left)
	}
}

// slow is one such client.
type slow struct {
	*peer.Client
	kind  string
	begin time.Time
}

func newSlow(t *testing.T, kind, addr, first string) *slow {
	c := peer.Dial(t, addr)
	if kind == "does not read on" {
		c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	}
	c.Try(first)
	return &slow{c, kind, time.Now()}
}

// ended waits until the connection is closed by the other side, at most d from
// its beginning. What does not read is only asked to write, which fails then.
func (s *slow) ended(d time.Duration) bool {
	s.SetDeadline(s.begin.Add(d))
	if s.kind == "does not read on" {
		return gone(s.Conn, s.begin.Add(d))
	}
	_, err := s.Rest(time.Until(s.begin.Add(d)))
	return !isTimeout(err)
}

// gone reports whether the peer has closed by then, without reading.
func gone(c net.Conn, by time.Time) bool {
	for time.Now().Before(by) {
		if _, err := c.Write([]byte{0}); err != nil {
			return true
		}
		<-time.After(50 * time.Millisecond)
	}
	return false
}

// latency is the 90th percentile of 100 requests in a row.
func latency(t *testing.T, u *rig.Usher) time.Duration {
	t.Helper()
	c := u.Dial()
	defer c.Close()
	var took []time.Duration
	for range 100 {
		begin := time.Now()
		if p := c.Get("aaaa.test", "/"); p.Status != 200 {
			t.Fatalf("a normal request got %d", p.Status)
		}
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	return took[90]
}

// TestDescriptorsUsedUp: accepting pauses, existing work goes on, nothing
// spins, and everything recovers.
func TestDescriptorsUsedUp(t *testing.T) {
	vm := peer.Listen(t, peer.Answer(peer.OK))
	u := builds.Start(t, rig.Config{Plain: true, NoFile: 128, Body: forward("aaaa.test", vm.Addr)})
	kept := u.Dial()
	kept.Get("aaaa.test", "/") // has its connection to the VM
	var crowd []*peer.Client
	for range 300 {
		crowd = append(crowd, u.Dial()) // those beyond the limit wait in the queue
	}
	rig.Eventually(t, "descriptors are used up", func() bool { return descriptors(t, u) >= 120 })
	begin := cpu(t, u.PID())
	for range 20 {
		if p := kept.Get("aaaa.test", "/"); p.Status != 200 {
			t.Errorf("existing work got %d", p.Status)
		}
		<-time.After(100 * time.Millisecond)
	}
	if used := cpu(t, u.PID()) - begin; used > time.Second {
		t.Errorf("%v of CPU time in two seconds without descriptors", used)
	}
	for _, c := range crowd {
		c.Close()
	}
	rig.Eventually(t, "descriptors are free again", func() bool { return descriptors(t, u) < 64 })
	for range 20 {
		if p := u.Dial().Get("aaaa.test", "/"); p.Status != 200 {
			t.Fatalf("after the shortage: %d", p.Status)
		}
	}
}

// cpu is the time that a process has computed.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100 // clock ticks
}
