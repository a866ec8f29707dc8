package command

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

// ending is how long a program that was asked to end (SIGTERM) may take until
// it is killed, and how long a pipe that its children hold is waited for.
const ending = 2 * time.Second

// answerLimit is how much of a program's answer is read.
const answerLimit = 64 << 10

// Output runs a program for what it prints on its standard output, 64 KiB at
// most: more is an error. env is added to usher's environment. The error says
// what the program printed on standard error last. When ctx ends the program
// is ended, not those it started.
func Output(ctx context.Context, argv, env []string) ([]byte, error) {
	cmd := command(ctx, argv, env)
	answer, complaint := &head{limit: answerLimit}, &tail{limit: 1 << 10}
	cmd.Stdout, cmd.Stderr = answer, complaint
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil // it ended well, a child of it holds the pipe
	case err != nil:
		err = explain(ctx, argv, err)
		if said := complaint.text(); said != "" {
			err = fmt.Errorf("%w: %s", err, strings.ReplaceAll(said, "\n", "; "))
		}
	case answer.over:
		err = fmt.Errorf("%s: printed over %d KiB", argv[0], answerLimit>>10)
	}
	if err != nil {
		return nil, err
	}
	return answer.kept, nil
}

// command is a program that ends with ctx and leaves its children alone.
func command(ctx context.Context, argv, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(environment(os.Environ()), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = ending
	return cmd
}

// environment leaves out what lets a program speak to systemd for usher, as
// podman does for its containers.
func environment(all []string) []string {
	return slices.DeleteFunc(all, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == "NOTIFY_SOCKET" || name == "WATCHDOG_USEC" || name == "WATCHDOG_PID"
	})
}

// explain makes an error of os/exec one that names the program and says whether
// its time was up.
func explain(ctx context.Context, argv []string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s: ended by us, its time was up: %w", argv[0], ctx.Err())
	case ctx.Err() != nil:
		return fmt.Errorf("%s: ended by us: %w", argv[0], ctx.Err())
	}
	if _, ended := errors.AsType[*exec.ExitError](err); !ended {
		return err // names the program already
	}
	return fmt.Errorf("%s: %w", argv[0], err)
}

// head keeps the first bytes written to it.
type head struct {
	limit int
	kept  []byte
	over  bool
}

func (h *head) Write(p []byte) (int, error) {
	room := min(len(p), h.limit-len(h.kept))
	h.kept = append(h.kept, p[:room]...)
	h.over = h.over || room < len(p)
	return len(p), nil
}

// tail keeps the last bytes written to it.
type tail struct {
	limit int
	kept  []byte
	cut   bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - t.limit; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
		t.cut = true
	}
	return len(p), nil
}

// text is what was kept, in whole lines where the beginning was cut off, and
// with nothing in it that could steer a terminal.
func (t *tail) text() string {
	kept := t.kept
	if t.cut {
		if _, rest, ok := bytes.Cut(kept, []byte("\n")); ok && len(rest) > 0 {
			kept = rest
		}
	}
	clean := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return r
		case r == '\r':
			return -1
		case r == utf8.RuneError || !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, string(kept))
	return strings.TrimRight(clean, "\n\t ")
}
