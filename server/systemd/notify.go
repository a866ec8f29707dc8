package systemd

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// States to Notify of; several may be joined with newlines.
const (
	Ready     = "READY=1"
	Reloading = "RELOADING=1" // followed by Ready when it is done
	Stopping  = "STOPPING=1"
	alive     = "WATCHDOG=1"
)

// Status is a state that `systemctl status` shows. The text is one line.
func Status(text string) string { return "STATUS=" + text }

// Notify tells systemd a state. told is false, without an error, when nobody
// asked to be told.
func Notify(state string) (told bool, err error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return false, nil
	}
	if name[0] != '/' && name[0] != '@' { // net takes '@' for an abstract socket, as systemd does
		return false, fmt.Errorf("systemd: NOTIFY_SOCKET %q is neither a path nor an abstract socket", name)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return false, fmt.Errorf("systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(state)); err != nil {
		return false, fmt.Errorf("systemd: %w", err)
	}
	return true, nil
}

// watchdogTime is how often systemd expects a sign of life, 0 when it does not.
func watchdogTime() time.Duration {
	micros, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || micros <= 0 || !ours("WATCHDOG_PID", true) {
		return 0
	}
	return time.Duration(micros) * time.Microsecond
}

// Watchdog gives signs of life until ctx ends, when systemd wants them. alright
// is asked before each; false lets the watchdog bite.
func Watchdog(ctx context.Context, alright func() bool) error {
	every := watchdogTime() / 2
	if every == 0 {
		return nil
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !alright() {
			continue
		}
		if _, err := Notify(alive); err != nil {
			return err
		}
	}
}

// ours reports whether a variable names this process.
func ours(variable string, unset bool) bool {
	value, ok := os.LookupEnv(variable)
	if !ok {
		return unset
	}
	pid, err := strconv.Atoi(value)
	return err == nil && pid == os.Getpid()
}
