package systemd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain also plays the activated service in a child process.
func TestMain(m *testing.M) {
	if os.Getenv("SYSTEMD_TEST_CHILD") != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// child accepts one connection on every socket it was handed and says the
// socket's name.
func child() int {
	if os.Getenv("LISTEN_PID") == "self" {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	sockets, err := Listeners()
	if err != nil {
		fmt.Println(err)
		return 3
	}
	if left, ok := os.LookupEnv("LISTEN_FDS"); ok {
		fmt.Println("LISTEN_FDS left", left)
		return 4
	}
	fmt.Println("sockets", len(sockets))
	for _, s := range sockets {
		if err := greet(s); err != nil {
			fmt.Println(err)
			return 5
		}
	}
	return 0
}

func greet(s Socket) error {
	ln, err := net.FileListener(s.File)
	if err != nil {
		return err
	}
	defer ln.Close()
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = fmt.Fprint(conn, s.Name)
	return err
}

// activate runs the child with sockets and variables.
func activate(t *testing.T, files []*os.File, env ...string) (*exec.Cmd, *strings.Builder) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), append(env, "SYSTEMD_TEST_CHILD=1")...)
	cmd.ExtraFiles = files
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, &out
}

func TestSocketActivation(t *testing.T) {
	var files []*os.File
	var addrs []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		files, addrs = append(files, f), append(addrs, ln.Addr().String())
		ln.Close()
	}
	cmd, out := activate(t, files, "LISTEN_PID=self", "LISTEN_FDS=2", "LISTEN_FDNAMES=http:https")
	for i, want := range []string{"http", "https"} {
		files[i].Close()
		conn, err := net.Dial("tcp", addrs[i])
		if err != nil {
			t.Fatal(err)
		}
		var got [16]byte
		n, _ := conn.Read(got[:])
		conn.Close()
		if string(got[:n]) != want {
			t.Errorf("socket %d says %q, want %q", i, got[:n], want)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

func TestSocketActivationFaults(t *testing.T) {
	for _, c := range []struct {
		env  []string
		exit int
		out  string
	}{
		{nil, 0, "sockets 0"},
		{[]string{"LISTEN_PID=1", "LISTEN_FDS=2"}, 0, "sockets 0"},
		{[]string{"LISTEN_FDS=2"}, 0, "sockets 0"},
		{[]string{"LISTEN_PID=self", "LISTEN_FDS=two"}, 3, "not a number"},
		{[]string{"LISTEN_PID=self", "LISTEN_FDS=200"}, 3, "is not open"},
	} {
		cmd, out := activate(t, nil, c.env...)
		err := cmd.Wait()
		var exit *exec.ExitError
		if errors.As(err, &exit) != (c.exit != 0) || cmd.ProcessState.ExitCode() != c.exit || !strings.Contains(out.String(), c.out) {
			t.Errorf("%v: %v: %s", c.env, err, out)
		}
	}
}

// listen opens a notification socket and says its name to this process.
func listen(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	t.Setenv("NOTIFY_SOCKET", name)
	return conn
}

func receive(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	b := make([]byte, 1000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestNotify(t *testing.T) {
	for _, name := range []string{
		filepath.Join(t.TempDir(), "notify"),
		fmt.Sprintf("@usher-test-%d", os.Getpid()),
	} {
		conn := listen(t, name)
		state := Ready + "\n" + Status("3 sites")
		if told, err := Notify(state); !told || err != nil {
			t.Fatalf("%s: %v, %v", name, told, err)
		}
		if got := receive(t, conn); got != state {
			t.Errorf("got %q", got)
		}
	}
}

func TestNotifyNobody(t *testing.T) {
	for name, wrong := range map[string]bool{"": false, "vsock:2:1234": true, "/nonexistent/socket": true} {
		t.Setenv("NOTIFY_SOCKET", name)
		if told, err := Notify(Ready); told || (err != nil) != wrong {
			t.Errorf("%q: %v, %v", name, told, err)
		}
	}
}

func TestWatchdog(t *testing.T) {
	conn := listen(t, filepath.Join(t.TempDir(), "notify"))
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	asked := 0
	go func() {
		done <- Watchdog(ctx, func() bool { asked++; return asked > 2 })
	}()
	if got := receive(t, conn); got != alive {
		t.Errorf("got %q", got)
	}
	cancel()
	if err := <-done; err != nil || asked < 3 {
		t.Errorf("asked %d times, %v", asked, err)
	}
}

func TestNoWatchdog(t *testing.T) {
	for _, pid := range []string{"1", "x"} {
		t.Setenv("WATCHDOG_USEC", "20000")
		t.Setenv("WATCHDOG_PID", pid)
		if err := Watchdog(t.Context(), nil); err != nil {
			t.Error(err)
		}
	}
}
