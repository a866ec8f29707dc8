package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// matches are the files of a pattern, sorted. A pattern that matches nothing
// is fine, a plain name must be there. As in a shell, names that begin with a
// dot match only a pattern that does: editors leave theirs lying around.
func matches(dir, pattern string) ([]string, error) {
	if pattern == "" {
		return nil, fmt.Errorf("is empty")
	}
	full := resolve(dir, pattern)
	found, err := filepath.Glob(full)
	if err != nil {
		return nil, fmt.Errorf("%q is not a pattern: %w", pattern, err)
	}
	if len(found) == 0 && !magic(pattern) {
		_, err := os.Stat(full)
		return nil, err
	}
	hidden := strings.HasPrefix(filepath.Base(pattern), ".")
	var files []string
	for _, file := range found {
		if hidden || !strings.HasPrefix(filepath.Base(file), ".") {
			files = append(files, filepath.Clean(file))
		}
	}
	return files, nil
}

func magic(pattern string) bool { return strings.ContainsAny(pattern, `*?[\`) }

// directories are those in which files of a pattern may appear.
func directories(pattern string) []string {
	dir := filepath.Dir(pattern)
	if !magic(dir) {
		return []string{dir}
	}
	found, _ := filepath.Glob(dir)
	return append(directories(dir), found...)
}

// listeners are the addresses of ours that a backend must not lead to.
func listeners(l Listen) []netip.AddrPort {
	var found []netip.AddrPort
	for _, text := range append(append([]string(nil), l.HTTP...), l.HTTPS...) {
		if addr, err := listenAddress(text); err == nil {
			found = append(found, addr)
		}
	}
	return found
}

// own reports whether a backend's address is plainly a listener of ours. What
// names resolve to, and the machine's other addresses, is not known here.
func (e *environment) own(b Backend) bool {
	return leadsTo(b, e.listeners...)
}

func leadsTo(b Backend, listeners ...netip.AddrPort) bool {
	ip, err := netip.ParseAddr(b.Host)
	if err != nil {
		return false
	}
	for _, l := range listeners {
		everywhere := l.Addr().IsUnspecified() && (ip.IsLoopback() || ip.IsUnspecified())
		if l.Port() == b.Port && (l.Addr() == ip || everywhere) {
			return true
		}
	}
	return false
}
