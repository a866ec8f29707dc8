package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// defaultStateDir is where state goes when the file does not say: systemd's
// StateDirectory=, the system's place, or the user's.
func defaultStateDir() string {
	if first := firstPath(os.Getenv("STATE_DIRECTORY")); first != "" {
		return first
	}
	if system := "/var/lib/usher"; canMake(system) {
		return system
	}
	if xdg := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(xdg) {
		return filepath.Join(xdg, "usher")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "state", "usher")
	}
	return userTemp()
}

// firstPath is the first of a list that systemd separates by colons.
func firstPath(list string) string {
	paths := filepath.SplitList(list)
	if len(paths) == 0 {
		return ""
	}
	return paths[0]
}

// adminSocket is the admin socket of a service.
const adminSocket = "/run/usher/admin.sock"

// defaultAdmin is the admin address when the file does not say.
func defaultAdmin() string {
	if canMake(filepath.Dir(adminSocket)) {
		return "unix:" + adminSocket
	}
	if xdg := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(xdg) {
		return "unix:" + filepath.Join(xdg, "usher", "admin.sock")
	}
	return "unix:" + filepath.Join(userTemp(), "admin.sock")
}

func userTemp() string {
	return filepath.Join(os.TempDir(), "usher-"+strconv.Itoa(os.Getuid()))
}

// canMake reports whether files could be made in a directory, or the directory
// itself if it is not there. It changes nothing: a check of a configuration
// must not.
func canMake(dir string) bool {
	const writeAndEnter = 2 | 1 // W_OK|X_OK of access(2)
	info, err := os.Stat(dir)
	if os.IsNotExist(err) {
		dir = filepath.Dir(dir)
	} else if err != nil || !info.IsDir() {
		return false
	}
	return syscall.Access(dir, writeAndEnter) == nil
}

// DefaultFile is the configuration that is used without -c: $USHER_CONFIG,
// ./config.toml, /etc/usher/config.toml, the first that exists; an error names
// them all.
func DefaultFile() (string, error) {
	named := os.Getenv("USHER_CONFIG")
	for _, file := range []string{named, "config.toml", "/etc/usher/config.toml"} {
		if _, err := os.Stat(file); file != "" && err == nil {
			return file, nil
		}
	}
	if named == "" {
		named = "not set"
	} else {
		named = strconv.Quote(named)
	}
	return "", fmt.Errorf("no configuration: $USHER_CONFIG (%s), ./config.toml and /etc/usher/config.toml do not exist", named)
}
