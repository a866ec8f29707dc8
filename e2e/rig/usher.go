package rig

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
)

// Usher is one running process.
type Usher struct {
	*Place
	Log    *Output // its own log, stderr
	Access *Output // its access log, stdout
	Binary string
	Extra  []*os.File // passed on as descriptors from 3

	t      testing.TB
	cmd    *exec.Cmd
	exited chan struct{}
	code   int
	over   bool // the test has looked at the end itself
}

// Start runs usher and waits until it serves. At the end of the test it is
// stopped, which must go in order.
func (b *Builds) Start(t testing.TB, c Config) *Usher {
	t.Helper()
	u := b.Prepare(t, c)
	u.Run()
	u.WaitReady()
	return u
}

// Prepare writes the configuration and starts nothing.
func (b *Builds) Prepare(t testing.TB, c Config) *Usher {
	t.Helper()
	return &Usher{Place: newPlace(t, c), Binary: b.Usher(t, !c.Plain), t: t}
}

// Run starts the process; wrap, if given, is a command that starts it.
func (u *Usher) Run(wrap ...string) {
	u.t.Helper()
	if u.conf.NoFile > 0 {
		wrap = append(wrap, "prlimit", fmt.Sprintf("--nofile=%d", u.conf.NoFile))
	}
	args := append(wrap, u.Binary, "run", "-c", u.File)
	u.Log, u.Access, u.exited, u.over = NewOutput(), NewOutput(), make(chan struct{}), false
	u.cmd = exec.Command(args[0], args[1:]...)
	u.cmd.Stdout, u.cmd.Stderr = u.Access, u.Log
	u.cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66")
	u.cmd.Env = append(u.cmd.Env, u.conf.Env...)
	u.cmd.ExtraFiles = u.Extra
	u.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := u.cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	go u.wait()
	u.t.Cleanup(u.end)
}

// wait is the goroutine that waits for the process.
func (u *Usher) wait() {
	err := u.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		u.code = exit.ExitCode() // -1: a signal
	}
	close(u.exited)
}

// WaitReady waits until the listeners and the admin socket answer.
func (u *Usher) WaitReady() {
	u.t.Helper()
	admin := [2]string{"unix", u.Admin}
	if u.AdminTCP != "" {
		admin = [2]string{"tcp", u.AdminTCP}
	}
	for _, at := range [][2]string{admin, {"tcp", u.HTTP}, {"tcp", u.HTTPS}} {
		if at[1] == u.HTTP && u.conf.NoHTTP {
			continue
		}
		Eventually(u.t, "usher answers at "+at[1], func() bool {
			u.failIfExited()
			return answers(at[0], at[1])
		})
	}
}

func answers(network, addr string) bool {
	c, err := net.Dial(network, addr)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func (u *Usher) failIfExited() {
	select {
	case <-u.exited:
		u.over = true
		u.t.Fatalf("usher ended with %d:\n%s", u.code, u.Log)
	default:
	}
}

// For is the same process in the hands of a subtest: connections that are made
// through it end with the subtest.
func (u *Usher) For(t testing.TB) *Usher {
	same := *u
	same.t = t
	return &same
}

// PID is the process's number.
func (u *Usher) PID() int { return u.cmd.Process.Pid }

// Signal sends a signal.
func (u *Usher) Signal(s syscall.Signal) {
	u.t.Helper()
	if err := u.cmd.Process.Signal(s); err != nil {
		u.t.Fatal(err)
	}
}

// Exit waits for the end of the process, at most d, and returns its code.
func (u *Usher) Exit(d time.Duration) int {
	u.t.Helper()
	select {
	case <-u.exited:
	case <-time.After(d):
		u.t.Fatalf("usher did not end within %v:\n%s", d, u.Log)
	}
	u.over = true
	return u.code
}

// end stops the process and holds it to what is true of every run: it ends
// with status 0 when told to, without a panic and without a data race.
func (u *Usher) end() {
	if !u.over {
		u.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-u.exited:
			if u.code != 0 {
				u.t.Errorf("usher ended with %d after SIGTERM", u.code)
			}
		case <-time.After(45 * time.Second): // drain is 30 s
			u.t.Errorf("usher did not end after SIGTERM")
		}
	}
	u.cmd.Process.Kill()
	<-u.exited
	if where := Trouble(u.Log.String()); where != "" {
		u.t.Errorf("in usher's log: %s", where)
	}
	if u.t.Failed() {
		u.t.Logf("usher's log:\n%s\naccess log:\n%s", tail(u.Log.String()), tail(u.Access.String()))
	}
}

var trouble = regexp.MustCompile(`(?s)(WARNING: DATA RACE|panic: |fatal error: |goroutine \d+ \[|"level":"panic").*`)

// Trouble is the text from the first sign of a crash, a panic that was
// survived, or a data race on.
func Trouble(log string) string {
	s := trouble.FindString(log)
	return s[:min(len(s), 6000)]
}

func tail(s string) string {
	if len(s) > 8000 {
		s = "…" + s[len(s)-8000:]
	}
	return s
}

// CLI runs another command of usher against this process and returns what it
// printed and its exit status.
func (u *Usher) CLI(args ...string) (stdout, stderr string, code int) {
	u.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(u.Binary, append(args, "-c", u.File)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		u.t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// Reload saves a new body and has it taken at once; it must be.
func (u *Usher) Reload(body string) string {
	u.t.Helper()
	u.Write(u.t, body)
	out, errs, code := u.CLI("reload")
	if code != 0 {
		u.t.Fatalf("reload was refused (%d): %s%s", code, out, errs)
	}
	return out
}

// Refused saves a new body and has it refused; it returns what was said.
func (u *Usher) Refused(body string) string {
	u.t.Helper()
	u.Write(u.t, body)
	out, errs, code := u.CLI("reload")
	if code != 1 {
		u.t.Fatalf("reload of a faulty file ended with %d: %s%s", code, out, errs)
	}
	return strings.TrimSpace(out + errs)
}

// Dial connects to the plain listener.
func (u *Usher) Dial() *peer.Client {
	u.t.Helper()
	return peer.Dial(u.t, u.HTTP)
}
