package rig

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Network is some network namespaces ("nodes") with links between them. It
// needs root, and is gone at the end of the test.
type Network struct {
	t    testing.TB
	name string
}

// NewNetwork makes the nodes; each has its loopback.
func NewNetwork(t testing.TB, nodes ...string) *Network {
	t.Helper()
	var b [4]byte
	rand.Read(b[:])
	n := &Network{t, fmt.Sprintf("usher-%x-", b)}
	for _, node := range nodes {
		n.ip("netns", "add", n.name+node)
		t.Cleanup(func() { exec.Command(Find(t, "ip"), "netns", "del", n.name+node).Run() })
		n.Shell(node, "ip link set lo up")
	}
	return n
}

func (n *Network) ip(args ...string) {
	n.t.Helper()
	if out, err := Tool(n.t, "ip", args...); err != nil {
		n.t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// Enter is the command that runs another one in a node.
func (n *Network) Enter(node string) []string {
	return []string{Find(n.t, "ip"), "netns", "exec", n.name + node}
}

// Shell runs a script in a node.
func (n *Network) Shell(node, script string) {
	n.t.Helper()
	args := append(n.Enter(node)[1:], "sh", "-ec", script)
	if out, err := Tool(n.t, "ip", args...); err != nil {
		n.t.Fatalf("%s: %s: %v\n%s", node, script, err, out)
	}
}

// Link joins two nodes by a cable whose ends are named after the other side,
// each with its addresses ("192.0.2.1/24").
func (n *Network) Link(a string, addrsA []string, b string, addrsB []string) {
	n.t.Helper()
	n.ip("link", "add", "to-"+b, "netns", n.name+a, "type", "veth", "peer", "name", "to-"+a, "netns", n.name+b)
	n.end(a, "to-"+b, addrsA)
	n.end(b, "to-"+a, addrsB)
}

func (n *Network) end(node, device string, addrs []string) {
	n.t.Helper()
	n.Shell(node, "ip link set "+device+" up")
	for _, a := range addrs {
		family := ""
		if strings.Contains(a, ":") {
			family = " nodad" // nobody else has it
		}
		n.Shell(node, "ip addr add "+a+" dev "+device+family)
	}
}

// Within runs f with this thread in a node: sockets that f makes belong there
// for ever.
func (n *Network) Within(node string, f func()) {
	n.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here := n.open("/proc/thread-self/ns/net")
	defer here.Close()
	there := n.open("/run/netns/" + n.name + node)
	defer there.Close()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		n.t.Fatal(err)
	}
	defer func() {
		if err := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); err != nil {
			panic(err) // the thread must serve nobody else
		}
	}()
	f()
}

func (n *Network) open(path string) *os.File {
	n.t.Helper()
	f, err := os.Open(path)
	if err != nil {
		n.t.Fatal(err)
	}
	return f
}
