package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// whoIsIt answers every request with the address that it came from.
func whoIsIt(l *peer.Link) {
	peer.Each(func(l *peer.Link, _ *strict.Request) bool { return l.Say(peer.Text(l.RemoteAddr().String())) })(l)
}

// whoIsThere says first who has connected.
func whoIsThere(l *peer.Link) {
	l.Say(l.RemoteAddr().String() + "\n")
	peer.Mirror(l)
}

// transparentLab is clients, an edge and a VM, each in a network namespace. The
// VM's default route leads to the edge, and the edge checks where packets come
// from as strictly as it can.
type transparentLab struct {
	*rig.Network
	u   *rig.Usher
	udp map[bool]*udpVM // by IPv6
}

var (
	labClients = []string{"198.51.100.7", "198.51.100.8", "2001:db8:c::7", "2001:db8:c::8"}
	labEdge    = map[bool]string{false: "198.51.100.1", true: "2001:db8:c::1"} // by IPv6
	labVM      = map[bool]string{false: "10.9.0.11", true: "fd09::11"}
)

func newTransparentLab(t *testing.T) *transparentLab {
	n := rig.NewNetwork(t, "client", "edge", "vm")
	n.Link("client", []string{"198.51.100.7/24", "198.51.100.8/24", "2001:db8:c::7/64", "2001:db8:c::8/64"}, "edge", []string{"198.51.100.1/24", "2001:db8:c::1/64"})
	n.Link("edge", []string{"10.9.0.1/24", "fd09::1/64"}, "vm", []string{"10.9.0.11/24", "fd09::11/64"})
	n.Shell("edge", "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 1 >$f; done")
	l := &transparentLab{Network: n, udp: map[bool]*udpVM{}}
	n.Within("vm", func() {
		for v6, ip := range labVM {
			peer.ListenAt(t, net.JoinHostPort(ip, "80"), whoIsIt)
			peer.ListenAt(t, net.JoinHostPort(ip, "22"), whoIsThere)
			l.udp[v6] = newUDPVM(t, "vm", net.JoinHostPort(ip, "53"))
		}
	})
	body := "[timeouts]\nhold = \"0s\"\nconnect = \"2s\"\n[defaults]\ntransparent = true\n[sites]\n"
	var forwards strings.Builder
	for v6, ip := range labVM {
		at, host := labEdge[v6], "four"
		if v6 {
			host = "six"
		}
		body += fmt.Sprintf("\"%s.test\" = { to = \"http://%s\", http = \"forward\" }\n\"pass%s.test\" = \"passthrough://%s\"\n",
			host, net.JoinHostPort(ip, "80"), host, net.JoinHostPort(ip, "22"))
		fmt.Fprintf(&forwards, "[[forward]]\nlisten = %q\nto = %q\ntransparent = true\n", net.JoinHostPort(at, "2222"), net.JoinHostPort(ip, "22"))
		fmt.Fprintf(&forwards, "[[forward]]\nlisten = %q\nprotocol = \"udp\"\nto = %q\ntransparent = true\n", net.JoinHostPort(at, "53"), net.JoinHostPort(ip, "53"))
	}
	l.u = builds.Prepare(t, rig.Config{})
	l.u.Write(t, body+forwards.String())
	runAtEdge(t, n, l.u)
	return l
}

// runAtEdge starts usher in the node "edge", on all its addresses.
func runAtEdge(t *testing.T, n *rig.Network, u *rig.Usher) {
	t.Helper()
	text, err := os.ReadFile(u.File)
	if err != nil {
		t.Fatal(err)
	}
	everywhere := strings.NewReplacer(u.HTTP, ":80", u.HTTPS, ":443").Replace(string(text))
	peer.Replace(t, u.File, []byte(everywhere))
	u.Run(n.Enter("edge")...)
	rig.Eventually(t, "usher answers", func() bool { _, _, code := u.CLI("status"); return code == 0 })
}

// connected is a connection of one of the clients to a port of the edge.
func (l *transparentLab) connected(t *testing.T, ip, port string) (c *peer.Client) {
	t.Helper()
	l.Within("client", func() { c = peer.DialFrom(t, ip, net.JoinHostPort(labEdge[strings.Contains(ip, ":")], port)) })
	return c
}

// applyRules does what explain says, to the letter.
func (l *transparentLab) applyRules(t *testing.T, urls ...string) {
	t.Helper()
	for _, url := range urls {
		cmd := append(l.Enter("edge")[1:], l.u.Binary, "explain", "--json", "-c", l.u.File, url)
		out, err := rig.Tool(t, "ip", cmd...)
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var told struct {
			Lines []struct{ Label, Text string }
		}
		if err := json.Unmarshal([]byte(out), &told); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		applied := 0
		for _, line := range told.Lines {
			switch line.Label {
			case "on the edge":
				l.Shell("edge", line.Text)
				applied++
			case "on the VM":
				l.Shell("vm", line.Text)
				applied++
			}
		}
		if applied < 2 {
			t.Fatalf("%s: no rules in %s", url, out)
		}
	}
}

// TestTransparent: the VM sees each client's own address, over IPv4 and IPv6,
// for requests, tunnels and datagrams, once the rules of explain are set; and
// no connection that carries one client's address serves another.
func TestTransparent(t *testing.T) {
	t.Parallel()
	l := newTransparentLab(t)
	c := l.connected(t, labClients[0], "80")
	if got := c.Get("four.test", "/"); got.Status != 504 {
		t.Errorf("without the rules: %d %s", got.Status, got.Body)
	}
	l.applyRules(t, "https://four.test/", "https://passsix.test/", "tcp://"+net.JoinHostPort(labEdge[false], "2222"), "udp://"+net.JoinHostPort(labEdge[true], "53"))

	seen := map[string]bool{}
	for _, ip := range labClients {
		host := "four.test"
		if strings.Contains(ip, ":") {
			host = "six.test"
		}
		for range 2 {
			c := l.connected(t, ip, "80")
			first := string(c.Get(host, "/").Body)
			again := string(c.Get(host, "/").Body)
			if at, err := netip.ParseAddrPort(first); err != nil || at.Addr().String() != ip {
				t.Errorf("a request of %s came from %q", ip, first)
			}
			if again != first {
				t.Errorf("the second request of a connection of %s came from %q, the first from %q", ip, again, first)
			}
			if seen[first] {
				t.Errorf("the connection from %q was used again", first)
			}
			seen[first] = true
			c.Close()
		}

		hello := string(rig.Hello(t, &tls.Config{ServerName: "pass" + host}))
		c := l.connected(t, ip, "443")
		c.Send(hello)
		wantFrom(t, c, ip)
		c.WantExact(hello)

		c = l.connected(t, ip, "2222")
		wantFrom(t, c, ip)
		c.Send("hello")
		c.WantExact("hello")
	}
}

// wantFrom reads the line of whoIsThere.
func wantFrom(t *testing.T, c *peer.Client, ip string) {
	t.Helper()
	line, err := c.R.ReadString('\n')
	if at, e := netip.ParseAddrPort(strings.TrimSpace(line)); err != nil || e != nil || at.Addr().String() != ip {
		t.Errorf("a tunnel of %s came from %q, %v", ip, line, err)
	}
}

// TestTransparentUDP: likewise for datagrams, and answers find back.
func TestTransparentUDP(t *testing.T) {
	t.Parallel()
	l := newTransparentLab(t)
	l.applyRules(t, "udp://"+net.JoinHostPort(labEdge[false], "53"), "udp://"+net.JoinHostPort(labEdge[true], "53"))
	for _, ip := range labClients {
		v6 := strings.Contains(ip, ":")
		var c udp
		l.Within("client", func() { c = udpClient(t, ip, net.JoinHostPort(labEdge[v6], "53")) })
		if got := c.ask("hi"); got != "vm hi" {
			t.Errorf("%s: %q", ip, got)
		}
		for vm := l.udp[v6]; len(vm.from) > 0; {
			if from := netip.MustParseAddrPort(<-vm.from); from.Addr().String() != ip {
				t.Errorf("a datagram of %s came from %s", ip, from)
			}
		}
	}
}

// TestTransparentFamilies: an IPv4 client has no address that an IPv6 VM could
// see.
func TestTransparentFamilies(t *testing.T) {
	t.Parallel()
	l := newTransparentLab(t)
	if got := l.connected(t, labClients[0], "80").Get("six.test", "/"); got.Status != 502 {
		t.Errorf("status %d", got.Status)
	}
	line := l.u.Line(t, "the request", func(l rig.Line) bool { return l.Text("host") == "six.test" })
	if !strings.Contains(line.Text("reason"), "another family") {
		t.Errorf("access log: %v", line)
	}
}

// TestTransparentWithoutCapability: the site says what is missing, the others
// serve; a forward refuses the file.
func TestTransparentWithoutCapability(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	without := []string{rig.Find(t, "setpriv"), "--bounding-set", "-net_raw,-net_admin"}
	u := builds.Prepare(t, rig.Config{Body: fmt.Sprintf("[sites]\n\"a.test\" = { to = \"http://%[1]s\", transparent = true, http = \"forward\" }\n\"b.test\" = { to = \"http://%[1]s\", http = \"forward\" }\n", vm.Addr)})
	u.Run(without...)
	u.WaitReady()
	if got := u.Dial().Get("a.test", "/").Status; got != 503 {
		t.Errorf("faulty site: %d", got)
	}
	if got := string(u.Dial().Get("b.test", "/").Body); got != "vm" {
		t.Errorf("the other site: %q", got)
	}
	status, _, _ := u.CLI("status")
	for _, want := range []string{"CAP_NET_RAW", "AmbientCapabilities", "config.toml:"} {
		if !strings.Contains(status, want) {
			t.Errorf("status does not say %q:\n%s", want, status)
		}
	}
	why := u.Refused(fmt.Sprintf("[sites]\n\"b.test\" = { to = \"http://%[1]s\", http = \"forward\" }\n[[forward]]\nlisten = %[2]q\nto = %[1]q\ntransparent = true\n", vm.Addr, rawPort(t)))
	if !strings.Contains(why, "CAP_NET_RAW") {
		t.Errorf("a forward is refused for %q", why)
	}
}
