package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// notified collects what the process says to the service manager.
func notified(t *testing.T, path string) *rig.Output {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	out := rig.NewOutput()
	go func() { // ends with the socket
		b := make([]byte, 4096)
		for {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			out.Write(append(b[:n:n], '\n'))
		}
	}()
	return out
}

// TestServiceManager: the open sockets that a manager passes are used, and it
// is told when usher serves and when it stops.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	dir := t.TempDir()
	sock := filepath.Join(dir, "notify")
	said := notified(t, sock)
	u := builds.Prepare(t, rig.Config{Body: forward("aaaa.test", vm.Addr), Env: []string{
		"NOTIFY_SOCKET=" + sock, "LISTEN_FDS=2", "LISTEN_FDNAMES=http:https"}})
	for _, addr := range []string{u.HTTP, u.HTTPS} {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer l.Close() // stays open in this process: usher could not bind the port itself
		u.Extra = append(u.Extra, f)
	}
	early := u.Dial() // waits in the queue of the passed socket
	early.Send(peer.Get("aaaa.test", "/"))

	u.Run("sh", "-c", `LISTEN_PID=$$ exec "$@"`, "sh")
	said.Contains(t, "READY=1")
	if got := string(early.Response("GET").Body); got != "vm" {
		t.Errorf("the early request: %q", got)
	}
	u.WaitReady()
	if !strings.Contains(said.String(), fmt.Sprintf("MAINPID=%d", u.PID())) && strings.Contains(said.String(), "MAINPID=") {
		t.Errorf("another process was named: %s", said)
	}
	u.Signal(syscall.SIGTERM)
	said.Contains(t, "STOPPING=1")
	if code := u.Exit(peer.Patience); code != 0 {
		t.Errorf("exit status %d", code)
	}
}

// TestReadyOnlyWhenServing: READY=1 comes after the listeners opened.
func TestReadyOnlyWhenServing(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	sock := filepath.Join(t.TempDir(), "notify")
	said := notified(t, sock)
	u := builds.Prepare(t, rig.Config{Body: forward("aaaa.test", vm.Addr), Env: []string{"NOTIFY_SOCKET=" + sock}})
	u.Run()
	said.Contains(t, "READY=1")
	if !serves(u, "aaaa.test", "vm") {
		t.Error("not serving when ready")
	}
}

// TestUnits holds the unit files to what systemd itself says of them.
func TestUnits(t *testing.T) {
	t.Parallel()
	out, _ := rig.Tool(t, "systemd-analyze", "verify", "../deploy/usher.service", "../deploy/usher.socket")
	for l := range strings.Lines(out) {
		if strings.Contains(l, "usher.") && !strings.Contains(l, "/usr/local/bin/usher is not executable") { // it is not installed here
			t.Errorf("systemd says: %s", l)
		}
	}
	for _, unit := range []string{"usher.service", "usher.socket"} {
		text, err := os.ReadFile(filepath.Join("..", "deploy", unit))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range map[string][]string{
			"usher.service": {"Type=notify", "CAP_NET_BIND_SERVICE", "StateDirectory=usher", "RuntimeDirectory=usher"},
			"usher.socket":  {"ListenStream=", "FileDescriptorName="},
		}[unit] {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s has no %s", unit, want)
			}
		}
	}
}
