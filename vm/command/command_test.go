package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func sh(script string) []string { return []string{"sh", "-c", script} }

func TestHookReturnsWhatWasPrintedAndTheStatus(t *testing.T) {
	output, err := Hook(t.Context(), sh(`echo one; echo two >&2; echo "$USHER_VM $HOME"; exit 3`), []string{"USHER_VM=web1"})
	if want := "one\ntwo\nweb1 " + os.Getenv("HOME"); output != want {
		t.Errorf("output %q, want %q", output, want)
	}
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok || exit.ExitCode() != 3 {
		t.Errorf("error %v, want exit status 3", err)
	}
}

func TestHookHasNoShell(t *testing.T) {
	output, err := Hook(t.Context(), []string{"echo", "$HOME", "a b", "*"}, nil)
	if err != nil || output != "$HOME a b *" {
		t.Errorf("%q, %v", output, err)
	}
}

func TestHookKeepsTheEnd(t *testing.T) {
	output, err := Hook(t.Context(), sh(`i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(output) > outputLimit || len(output) < outputLimit-20 || !strings.HasPrefix(output, "line ") || !strings.HasSuffix(output, "line 19999") {
		t.Errorf("%d bytes, from %.20q to %q", len(output), output, output[len(output)-20:])
	}
}

func TestHookPrintsNothingThatSteersATerminal(t *testing.T) {
	output, err := Hook(t.Context(), []string{"printf", `a\033[31mb\tc\r\nd\377\302\233e\n\n`}, nil)
	if want := "a?[31mb\tc\nd??e"; err != nil || output != want {
		t.Errorf("%q, %v, want %q", output, err, want)
	}
}

func TestHookThatIsNotThere(t *testing.T) {
	_, err := Hook(t.Context(), []string{"/nonexistent/virsh", "start"}, nil)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/nonexistent/virsh") {
		t.Error(err)
	}
}

func TestHookIsEndedWhenItsTimeIsUp(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	began := time.Now()
	output, err := Hook(ctx, sh(`echo begun; exec sleep 60`), nil)
	if !errors.Is(err, context.DeadlineExceeded) || output != "begun" {
		t.Errorf("%q, %v", output, err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestHookThatIgnoresTheSignalIsKilled(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := Hook(ctx, sh(`trap "" TERM; while :; do sleep 0.1; done`), nil)
	if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took > 10*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// TestChildrenOutliveTheHook starts a child that holds the hook's output and
// writes to it after the hook has ended: more than a pipe holds.
func TestChildrenOutliveTheHook(t *testing.T) {
	dir := t.TempDir()
	began := time.Now()
	output, err := Hook(t.Context(), sh(`
		(
			echo $(exec sh -c 'echo $PPID') >`+dir+`/pid
			until [ -e `+dir+`/go ]; do sleep 0.02; done
			i=0; while [ $i -lt 3000 ]; do echo "a line of some forty bytes, number $i" 2>/dev/null; i=$((i+1)); done
			echo alive >`+dir+`/alive
			exec sleep 60
		) &
		until [ -s `+dir+`/pid ]; do sleep 0.02; done
		echo parent`), nil)
	if err != nil || output != "parent" {
		t.Fatalf("%q, %v", output, err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("the hook waited %v for its child", took)
	}
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGKILL)
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "alive")); err == nil {
			break
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("the child died of what it wrote: %v", err)
		}
		if time.Since(began) > 60*time.Second {
			t.Fatal("the child is blocked")
		}
		time.Sleep(20 * time.Millisecond) // another process, which cannot tell us
	}
}

func TestHookLeavesOurProcessGroup(t *testing.T) {
	output, err := Hook(t.Context(), sh(`cut -d" " -f5 /proc/$$/stat; echo $$`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(output); len(fields) != 2 || fields[0] != fields[1] {
		t.Errorf("process group and id: %q", output)
	}
}

func TestHookLeavesNoDescriptors(t *testing.T) {
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	run := func() {
		Hook(t.Context(), sh("echo x"), nil)
		Hook(t.Context(), []string{"/nonexistent"}, nil)
	}
	run()
	before := count()
	for range 20 {
		run()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func TestOutput(t *testing.T) {
	for _, test := range []struct{ name, script, want, fault string }{
		{"answer", `echo 10.0.0.1; echo warning >&2`, "10.0.0.1\n", ""},
		{"failure", `echo 10.0.0.1; echo no such domain >&2; exit 1`, "", "sh: exit status 1: no such domain"},
		{"too much", `yes | head -c 100000`, "", "printed over 64 KiB"},
		{"environment", `echo $USHER_VM`, "web1\n", ""},
		{"a child that holds the pipe", `echo 10.0.0.1; sleep 5 &`, "10.0.0.1\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Output(t.Context(), sh(test.script), []string{"USHER_VM=web1"})
			if string(got) != test.want || (err == nil) != (test.fault == "") || err != nil && !strings.Contains(err.Error(), test.fault) {
				t.Errorf("%q, %v, want %q, %s", got, err, test.want, test.fault)
			}
		})
	}
}

// TestHookCannotSpeakForUsher: what starts containers and services tells systemd
// of them if it is asked to.
func TestHookCannotSpeakForUsher(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("WATCHDOG_USEC", "1000000")
	for _, run := range []func() (string, error){
		func() (string, error) { return Hook(t.Context(), []string{"env"}, nil) },
		func() (string, error) {
			printed, err := Output(t.Context(), []string{"env"}, nil)
			return string(printed), err
		},
	} {
		output, err := run()
		if err != nil || !strings.Contains(output, "PATH=") || strings.Contains(output, "NOTIFY_SOCKET") || strings.Contains(output, "WATCHDOG") {
			t.Errorf("%v, in an environment of %d bytes that it may speak by", err, len(output))
		}
	}
}
