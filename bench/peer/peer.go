// Package peer has the proxies: how each is configured for the same work, as its
// own manual recommends for speed, and what it says of its version.
package peer

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"usher/bench/backend"
	"usher/bench/machine"
)

// Task is what every proxy of a row is configured for.
type Task struct {
	Dir     string // of its own, for all its files
	Core    int
	Backend backend.Addresses
	Plain   netip.AddrPort // HTTP/1.1
	TLS     netip.AddrPort // HTTP/1.1, HTTP/2 and, on UDP, HTTP/3
	Pass    netip.AddrPort // passthrough by server name; usher's is that of TLS
	Cert    string         // PEM files, ECDSA P-256
	Key     string
	Both    string // certificate and key in one file
	Log     string // JSON access log; empty: off
	Include string // usher alone: a directory of more sites
	Extra   string // usher alone: more of its file
	Root    bool   // the bench runs as root
}

// Proxy is one of the programs in the table.
type Proxy struct {
	Name    string
	Package string // of Debian; empty for usher
	Path    string // of the binary
	start   func(p *Proxy, t *Task) (machine.Command, error)
	stop    syscall.Signal
	version []string
}

// Instance is a running proxy.
type Instance struct {
	*machine.Process
	Proxy *Proxy
	Task  Task
}

// Stop ends the proxy at once, without waiting for open connections.
func (i *Instance) Stop() { i.Process.Stop(i.Proxy.stop) }

// Start configures and starts a proxy; it may not listen yet.
func (p *Proxy) Start(s *machine.Starter, t Task) (*Instance, error) {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return nil, err
	}
	command, err := p.start(p, &t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	command.Core, command.Dir = t.Core, t.Dir
	process, err := s.Start(command)
	if command.Stdout != nil {
		command.Stdout.Close()
	}
	if err != nil {
		return nil, err
	}
	return &Instance{process, p, t}, nil
}

// Version is what the program says of itself, on one line.
func (p *Proxy) Version() string {
	out, err := exec.Command(p.Path, p.version...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if err != nil && line == "" {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

// Find looks for a program, also where Debian has those of the administrator.
func Find(name string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	return ""
}

// write puts a configuration file in the proxy's directory and returns its path.
func (t *Task) write(name, text string) (string, error) {
	path := filepath.Join(t.Dir, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}
