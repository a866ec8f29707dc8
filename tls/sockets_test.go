package tls

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// listening are the listening sockets of this network namespace whose
// descriptors are ours.
func listening(t *testing.T) (all []string) {
	t.Helper()
	ours := map[string]bool{}
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		to, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		if inode, ok := strings.CutPrefix(to, "socket:["); ok {
			ours[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(table)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if column := strings.Fields(lines.Text()); column[3] == "0A" && ours[column[9]] {
				all = append(all, column[1])
			}
		}
		f.Close()
	}
	slices.Sort(all)
	return all
}

// While a validation is under way no socket listens that did not before.
func TestValidationsOpenNoListener(t *testing.T) {
	for _, kind := range []string{"http-01", "tls-alpn-01"} {
		for name, elsewhere := range map[string]bool{"one address": false, "two addresses": true} {
			t.Run(kind+" "+name, func(t *testing.T) {
				a := newACMEServer(t)
				a.Types = []string{kind}
				a.Hold = func(string) bool { return true }
				e := newEdge(t, t.TempDir(), a)
				if elsewhere {
					other := listenTCP(t, "127.0.0.2:0")
					defer other.Close()
					e.options.TLSAddrs = []netip.AddrPort{addrOf(other)}
				}
				before := listening(t)
				e.apply(acmeWant("a.test"))
				e.start()
				e.eventually("the challenge is presented", func() bool {
					a.mu.Lock()
					defer a.mu.Unlock()
					return len(a.orders) > 0 && a.orders["0"].kind == kind
				})
				if now := listening(t); !slices.Equal(now, before) {
					t.Errorf("listening: %q, before: %q", now, before)
				}
			})
		}
	}
}

func TestTakenAddress(t *testing.T) {
	at := func(all ...string) (addrs []netip.AddrPort) {
		for _, a := range all {
			addrs = append(addrs, netip.MustParseAddrPort(a))
		}
		return addrs
	}
	for _, c := range []struct {
		plain, secure         []netip.AddrPort
		host                  string
		plainPort, securePort int
	}{
		{nil, nil, "", 0, 0},
		{at("[::]:80"), at("[::]:443"), "::", 80, 443},
		{nil, at("10.0.0.1:443"), "10.0.0.1", 0, 443},
		{at("10.0.0.1:80"), nil, "10.0.0.1", 80, 0},
		{at("10.0.0.1:80", "10.0.0.2:81"), at("10.0.0.2:443"), "10.0.0.2", 81, 443},
		{at("10.0.0.1:80"), at("[::]:443"), "", 80, 443},
	} {
		host, plain, secure := takenAddress(c.plain, c.secure)
		if host != c.host || plain != c.plainPort || secure != c.securePort {
			t.Errorf("%v %v: %q %d %d", c.plain, c.secure, host, plain, secure)
		}
	}
}
