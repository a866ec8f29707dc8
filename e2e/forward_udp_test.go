package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// udpVM answers every datagram with its name and what it got.
type udpVM struct {
	t    testing.TB
	name string
	addr string
	c    *net.UDPConn
	done chan struct{}
	from chan string // who asked
}

func newUDPVM(t testing.TB, name, addr string) *udpVM {
	t.Helper()
	v := &udpVM{t: t, name: name, addr: addr, from: make(chan string, 1000)}
	v.up()
	t.Cleanup(v.down)
	return v
}

func (v *udpVM) up() {
	v.t.Helper()
	a, err := net.ResolveUDPAddr("udp", v.addr)
	if err == nil {
		v.c, err = net.ListenUDP("udp", a)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	v.addr, v.done = v.c.LocalAddr().String(), make(chan struct{})
	go v.serve(v.c, v.done)
}

func (v *udpVM) serve(c *net.UDPConn, done chan struct{}) {
	defer close(done)
	buf := make([]byte, 1<<16)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		v.from <- from.String()
		c.WriteToUDPAddrPort(append([]byte(v.name+" "), buf[:n]...), from)
	}
}

func (v *udpVM) down() {
	v.c.Close()
	<-v.done
}

// udp is a client socket that hears nobody but whom it sends to.
type udp struct {
	net.Conn
	t testing.TB
}

func udpClient(t testing.TB, from, to string) udp {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return udp{c, t}
}

func (c udp) say(s string) {
	c.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// ask says something until it is answered, as what uses UDP does. A port that
// is still or again closed is tried again.
func (c udp) ask(s string) (answer string) {
	c.t.Helper()
	buf := make([]byte, 1<<16)
	for end := time.Now().Add(peer.Patience); time.Now().Before(end); {
		again := time.After(20 * time.Millisecond)
		if _, err := c.Write([]byte(s)); err == nil {
			c.SetReadDeadline(time.Now().Add(time.Second))
			for n, err := 0, error(nil); err == nil; {
				if n, err = c.Read(buf); err == nil && strings.HasSuffix(string(buf[:n]), s) { // no late answer to another
					return string(buf[:n])
				}
			}
		}
		<-again
	}
	c.t.Fatalf("no answer to %.60q", s)
	return ""
}

func udpForward(at string, rest string, to ...string) string {
	var quoted []string
	for _, a := range to {
		quoted = append(quoted, fmt.Sprintf("%q", a))
	}
	return fmt.Sprintf("listen = %q\nprotocol = \"udp\"\nto = [%s]\n%s", at, strings.Join(quoted, ", "), rest)
}

// TestForwardUDP: each client has a session, which ends in a line of the log
// when it was idle.
func TestForwardUDP(t *testing.T) {
	t.Parallel()
	vm, at := newUDPVM(t, "vm", "127.0.0.1:0"), rawPort(t)
	u := start(t, "%s", ports(t, udpForward(at, "tunnel_idle = \"2s\"", vm.addr)))
	one, two := udpClient(t, "", at), udpClient(t, "", at)
	for i := range 10 {
		for _, c := range []udp{one, two} {
			want := fmt.Sprint(c.LocalAddr(), i)
			if got := c.ask(want); got != "vm "+want {
				t.Fatalf("got %q, want %q", got, want)
			}
		}
	}
	if got := one.ask(strings.Repeat("x", 60000)); len(got) != 60003 {
		t.Errorf("%d bytes of a large datagram", len(got))
	}
	if status, _, _ := u.CLI("status"); !strings.Contains(status, "udp "+at+", 2 open") {
		t.Errorf("status:\n%s", status)
	}
	port := one.LocalAddr().(*net.UDPAddr).Port
	line := u.Line(t, "the session", func(l rig.Line) bool { return l.Text("type") == "tunnel" && l.Number("port") == port })
	if line.Text("site") != "udp://"+at || line.Text("backend") != vm.addr || line.Text("reason") != "idle" ||
		line.Number("datagrams_in") < 11 || line.Number("datagrams_in") != line.Number("datagrams_out") || line.Number("bytes_in") < 60000 {
		t.Errorf("access log: %v", line)
	}
	if got := one.ask("again"); got != "vm again" {
		t.Errorf("after the end of its session: %q", got)
	}
}

// TestForwardUDPWildcard: a port of all addresses answers from the one that was
// asked.
func TestForwardUDPWildcard(t *testing.T) {
	t.Parallel()
	vm, at := newUDPVM(t, "vm", "127.0.0.1:0"), rawPort(t)
	start(t, "%s", ports(t, udpForward(":"+port(at), "", vm.addr)))
	for _, ip := range []string{"127.0.0.1", "127.9.8.7", "::1"} {
		if got := udpClient(t, "", net.JoinHostPort(ip, port(at))).ask("hi"); got != "vm hi" {
			t.Errorf("%s: %q", ip, got)
		}
	}
}

// TestForwardUDPVMs: a client keeps its VM whatever its port, clients spread,
// and those of a VM that is gone go to another one.
func TestForwardUDPVMs(t *testing.T) {
	t.Parallel()
	vms := []*udpVM{newUDPVM(t, "0", "127.0.0.1:0"), newUDPVM(t, "1", "127.0.0.1:0")}
	at := rawPort(t)
	start(t, "%s", ports(t, udpForward(at, "", vms[0].addr, vms[1].addr)))
	home := map[string]string{}
	for i := range 20 {
		ip := fmt.Sprintf("127.0.7.%d", i+1)
		for range 3 {
			got := udpClient(t, ip, at).ask("hi")[:1]
			if home[ip] == "" {
				home[ip] = got
			} else if home[ip] != got {
				t.Fatalf("%s went to VM %s and then to VM %s", ip, home[ip], got)
			}
		}
	}
	var away string
	seen := map[string]int{}
	for ip, vm := range home {
		if seen[vm]++; vm == "0" {
			away = ip
		}
	}
	if len(seen) != 2 {
		t.Fatalf("20 clients: %v", seen)
	}
	c := udpClient(t, away, at)
	c.ask("before")
	vms[0].down()
	if got := c.ask("after"); got != "1 after" {
		t.Errorf("a client of a dead VM was answered %q", got)
	}
	vms[0].up()
}

// TestForwardUDPProxyHeader: it stands in the first datagram of a session.
func TestForwardUDPProxyHeader(t *testing.T) {
	t.Parallel()
	vm, at := newUDPVM(t, "vm", "127.0.0.1:0"), rawPort(t)
	start(t, "%s", ports(t, udpForward(at, `proxy_protocol = "v2"`, vm.addr)))
	c := udpClient(t, "127.0.0.78", at)
	first := []byte(strings.TrimPrefix(c.ask("one"), "vm "))
	if len(first) != 28+3 || first[13] != 0x12 {
		t.Fatalf("first datagram %x", first)
	}
	first[13] = 0x11 // what wantProxyHeader knows; it looks at no more
	r := bufio.NewReader(bytes.NewReader(first))
	src, dst := wantProxyHeader(t, r, "v2")
	rest := make([]byte, 3)
	r.Read(rest)
	if src != c.LocalAddr().String() || dst != at || string(rest) != "one" {
		t.Errorf("from %s to %s: %q", src, dst, rest)
	}
	if got := c.ask("two"); got != "vm two" {
		t.Errorf("second datagram %q", got)
	}
}

// TestForwardUDPReload: sessions go on where nothing changed, have the drain
// time where something did, and a port that was given up can be had again.
func TestForwardUDPReload(t *testing.T) {
	t.Parallel()
	one, two := newUDPVM(t, "one", "127.0.0.1:0"), newUDPVM(t, "two", "127.0.0.1:0")
	same, moved, gone := rawPort(t), rawPort(t), rawPort(t)
	const times = "[timeouts]\ndrain = \"2s\"\n"
	before := times + ports(t, udpForward(same, "", one.addr), udpForward(moved, "", one.addr), udpForward(gone, "", one.addr))
	u := start(t, "%s", before)
	stay, move, leave := udpClient(t, "", same), udpClient(t, "", moved), udpClient(t, "", gone)
	for _, c := range []udp{stay, move, leave} {
		if got := c.ask("x"); got != "one x" {
			t.Fatal(got)
		}
	}
	<-one.from
	u.Reload(times + ports(t, udpForward(same, "", one.addr), udpForward(moved, "", two.addr)))
	if got := leave.ask("still here"); got != "one still here" {
		t.Error(got)
	}
	if got := udpClient(t, "", moved).ask("new"); got != "two new" {
		t.Error(got)
	}
	rig.Eventually(t, "the session has moved", func() bool { return move.ask("where") == "two where" })
	u.Line(t, "the end of the session of the port that is gone", func(l rig.Line) bool {
		return l.Text("site") == "udp://"+gone && strings.Contains(l.Text("reason"), "left the configuration")
	})
	u.Reload(before)
	if got := leave.ask("back"); got != "one back" {
		t.Error(got)
	}
	if got := stay.ask("and I stay"); got != "one and I stay" {
		t.Error(got)
	}
	taken, err := net.ListenPacket("udp", rawPort(t))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if why := u.Refused(before + "\n[[forward]]\n" + udpForward(taken.LocalAddr().String(), "", one.addr)); !strings.Contains(why, taken.LocalAddr().String()) {
		t.Errorf("refused for %q", why)
	}
	if got := stay.ask("still"); got != "one still" {
		t.Error(got)
	}
}

// TestForwardUDPStops: quiet sessions do not keep usher from stopping for the
// whole drain time.
func TestForwardUDPStops(t *testing.T) {
	t.Parallel()
	vm, at := newUDPVM(t, "vm", "127.0.0.1:0"), rawPort(t)
	u := start(t, "%s", ports(t, udpForward(at, "", vm.addr)))
	udpClient(t, "", at).ask("x")
	begin := time.Now()
	u.Signal(syscall.SIGTERM)
	if code := u.Exit(peer.Patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
	if d := time.Since(begin); d > 12*time.Second {
		t.Errorf("stopped after %v", d)
	}
	u.Line(t, "the session", func(l rig.Line) bool { return l.Text("site") == "udp://"+at })
}

// TestForwardUDPVMAway: a VM that is switched off sends no ICMP message. That
// nobody has its address is noticed all the same, and its clients go to the
// other one.
func TestForwardUDPVMAway(t *testing.T) {
	t.Parallel()
	n := rig.NewNetwork(t, "client", "edge", "vm")
	var clients []string
	for i := range 8 {
		clients = append(clients, fmt.Sprintf("198.51.100.%d/24", 10+i))
	}
	n.Link("client", clients, "edge", []string{"198.51.100.1/24"})
	n.Link("edge", []string{"10.9.0.1/24"}, "vm", []string{"10.9.0.11/24"})
	n.Within("vm", func() { newUDPVM(t, "here", "10.9.0.11:53") })
	u := builds.Prepare(t, rig.Config{})
	u.Write(t, ports(t, udpForward(":53", "", "10.9.0.11:53", "10.9.0.99:53")))
	runAtEdge(t, n, u)
	for _, ip := range clients {
		var c udp
		n.Within("client", func() { c = udpClient(t, strings.TrimSuffix(ip, "/24"), "198.51.100.1:53") })
		if got := c.ask("hi"); got != "here hi" {
			t.Errorf("%s: %q", ip, got)
		}
	}
	u.Line(t, "a session with nobody", func(l rig.Line) bool {
		return l.Text("backend") == "10.9.0.99:53" && l.Text("closed_by") == "vm" && strings.Contains(l.Text("reason"), "no route to host")
	})
}
