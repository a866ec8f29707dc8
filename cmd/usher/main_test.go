package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"usher/server/admin"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"usher": main}) }

// TestScripts runs the commands as a shell would. $ADMIN is where a process
// with fixed answers listens, which refuses to reload unless forced; $RUN is a
// directory with a short name, for sockets.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "answers": answers},
		Setup: func(e *testscript.Env) error {
			e.Setenv("TZ", "UTC")
			e.Setenv("USHER_CONFIG", "")
			e.Setenv("XDG_RUNTIME_DIR", filepath.Join(e.WorkDir, "xdg"))
			// A socket path must be short, the script's directory may not be.
			dir, err := os.MkdirTemp("", "usher")
			if err != nil {
				return err
			}
			addr := "unix:" + filepath.Join(dir, "fixed.sock")
			e.Setenv("RUN", dir)
			e.Setenv("ADMIN", addr)
			return answer(e, addr, dir)
		},
	})
}

// exits runs a command and fails unless it exits with the given status. What it
// says is for stdout and stderr to look at.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// answers repeats a command until it succeeds.
func answers(ts *testscript.TestScript, _ bool, args []string) {
	deadline := time.Now().Add(30 * time.Second)
	for ts.Exec(args[0], args[1:]...) != nil {
		if time.Now().After(deadline) {
			ts.Fatalf("%v does not succeed", args)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// answer serves the admin API until the script ends.
func answer(e *testscript.Env, addr, dir string) error {
	ln, err := admin.Listen(addr)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- admin.Serve(ctx, ln, admin.Handler(fixed{}, http.NotFoundHandler()), nil) }()
	e.Defer(func() {
		cancel()
		<-done
		os.RemoveAll(dir)
	})
	return nil
}

// fixed is a process that always says the same.
type fixed struct{}

func at(hour int) time.Time { return time.Date(2026, 3, 4, hour, 0, 0, 0, time.UTC) }

func (fixed) Status() admin.Status {
	return admin.Status{
		Version: "9.9.9", PID: 42, Started: at(1), Generation: 7, File: "/etc/usher/config.toml", Sites: 3,
		Loaded: at(2), LastReload: at(3), Refused: "over half of the sites are gone",
		Problems:    []admin.Problem{{File: "config.toml", Line: 4, Column: 2, Site: "b.example", Message: "no such VM"}},
		Faulty:      []admin.Fault{{Site: "b.example", Reason: "no such VM", Stale: true}},
		Drained:     []string{"web1", "10.0.0.2"},
		Listeners:   []admin.Listener{{Kind: "https", Address: "[::]:443", Connections: 5}},
		Connections: 5, Tunnels: 1, DroppedLines: 6,
	}
}

func (fixed) Sites() []admin.Site {
	return []admin.Site{
		{Host: "a.example", Mode: "terminate", To: []string{"http://10.0.0.1:80"}, Certificate: "acme", State: admin.Live, Requests: 12},
		{Host: "b.example", Mode: "passthrough", To: []string{"passthrough://10.0.0.2:443"}, State: admin.Faulty, Fault: "bad\x1b[31m\nname"},
	}
}

func (fixed) VMs() []admin.VM {
	return []admin.VM{
		{
			Name: "web1", Address: "10.0.0.1:80", Sites: 2, Active: 1, Idle: 3, Health: "unhealthy", Since: at(3),
			Requests: 1200, Retries: 2, P50: 0.0012, P99: 0.25, Machine: &admin.Machine{State: "asleep", Since: at(5), Why: "idle for 30m"},
		},
		{
			Address: "10.0.0.2:443", Sites: 1, Health: "ejected", Why: "connection refused", Failures: 3, Ejections: 1,
			LastError: "reset", FailedAt: at(4),
		},
	}
}

func (fixed) Drain(name string, drained bool) (admin.Drained, error) {
	d := admin.Drained{VM: name, Drained: drained}
	switch name {
	case "web1":
		d.Active = 3
	case "web2":
	default:
		return d, fmt.Errorf("there is no VM %q", name)
	}
	return d, nil
}

func (fixed) Certs() admin.Certs {
	return admin.Certs{
		LocalRoot: "/var/lib/usher/ca/root.pem",
		Certificates: []admin.Certificate{
			{Site: "a.example", Kind: "acme", State: "valid", Issuer: "R11", NotAfter: time.Now().Add(80*24*time.Hour + time.Hour)},
			{Site: "c.example", Kind: "acme", State: "failed", LastError: "no such host", NextTry: at(5)},
			{Site: "d.example", Kind: "file", State: "expired", NotAfter: at(0)},
		},
	}
}

func (fixed) Reload(_ context.Context, force bool) admin.ReloadResult {
	if !force {
		return admin.ReloadResult{
			Generation: 7, Refused: "over half of the sites are gone",
			Problems: []admin.Problem{{File: "config.toml", Line: 4, Column: 2, Message: "no such VM"}},
		}
	}
	return admin.ReloadResult{OK: true, Generation: 8, Changes: []string{"removed b.example"}}
}

// brokenWriter is a full disk.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestFailedOutputIsAFailure(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"completion", "fish"}, {"completion", "bash"}} {
		cmd := newRoot()
		cmd.SetArgs(args)
		cmd.SetOut(brokenWriter{})
		if got := report(io.Discard, cmd.Execute()); got != failed {
			t.Errorf("%v: exit status %d", args, got)
		}
	}
	table := newTable(brokenWriter{})
	table.row("x")
	if table.flush() == nil {
		t.Error("a table was printed to a full disk")
	}
}

func TestReasonIsOneLine(t *testing.T) {
	var out writer
	if got := report(&out, errors.New("first\nsecond\r\n\x1b[31mthird")); got != failed {
		t.Errorf("exit status %d", got)
	}
	if want := `usher: first; second; \x1b[31mthird` + "\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

type writer []byte

func (w *writer) Write(p []byte) (int, error) { *w = append(*w, p...); return len(p), nil }
