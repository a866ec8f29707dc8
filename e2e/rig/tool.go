package rig

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
)

// Tool runs another program to its end and returns what it printed on both
// streams.
func Tool(t testing.TB, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, Find(t, name), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Find is the path of a program; a missing one fails the test and says where
// it comes from.
func Find(t testing.TB, name string) string {
	t.Helper()
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // not in everybody's PATH
		if path := filepath.Join(dir, name); executable(path) {
			return path
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed: scripts/install-test-tools.sh installs what the tests need", name)
	}
	return path
}

func executable(path string) bool {
	s, err := os.Stat(path)
	return err == nil && s.Mode()&0o111 != 0
}

// Daemon starts another server, which is ended with the test, and waits until
// it answers at addr.
func Daemon(t testing.TB, env []string, addr, name string, args ...string) *Output {
	t.Helper()
	out, exited := NewOutput(), make(chan struct{})
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = out, out, append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { cmd.Wait(); close(exited) }()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(peer.Patience):
			cmd.Process.Kill()
			<-exited
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), tail(out.String()))
		}
	})
	Eventually(t, name+" answers at "+addr, func() bool {
		select {
		case <-exited:
			t.Fatalf("%s ended:\n%s", name, out)
		default:
		}
		return answers("tcp", addr)
	})
	return out
}
