package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDefaultFile(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("USHER_CONFIG", "")
	none(t, "$USHER_CONFIG (not set), ./config.toml and /etc/usher/config.toml")
	t.Setenv("USHER_CONFIG", filepath.Join(dir, "mine.toml"))
	none(t, "mine.toml")
	write(t, "config.toml", "")
	if file, err := DefaultFile(); file != "config.toml" || err != nil {
		t.Errorf("%q %v", file, err)
	}
	write(t, "mine.toml", "")
	if file, err := DefaultFile(); file != filepath.Join(dir, "mine.toml") || err != nil {
		t.Errorf("%q %v", file, err)
	}
}

// none checks the error where no file exists, or that the system's own one is
// found on a machine that has it.
func none(t *testing.T, want string) {
	t.Helper()
	file, err := DefaultFile()
	if err == nil && file == "/etc/usher/config.toml" {
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%q %v", file, err)
	}
}

// loadText loads a file with the text in a directory of its own.
func loadText(t testing.TB, text string) (*Config, []Problem) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.toml")
	write(t, file, text)
	return new(Loader).Load(file)
}

func TestStateDir(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
	if c, _ := loadText(t, ""); c.StateDir != "/var/lib/one" {
		t.Errorf("%q", c.StateDir)
	}
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", "/xdg")
	want := "/xdg/usher"
	if canMake("/var/lib/usher") {
		want = "/var/lib/usher"
	}
	if c, _ := loadText(t, ""); c.StateDir != want {
		t.Errorf("%q", c.StateDir)
	}
}

func TestCanMake(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for path, want := range map[string]bool{"": true, "new": true, "file": false, "no/way": false, "file/below": false} {
		if got := canMake(filepath.Join(dir, path)); got != want {
			t.Errorf("%q: %v", path, got)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "new")); err == nil {
		t.Error("the check made the directory")
	}
}

// TestAdminAddress reads the admin address of good files, and of files that
// are broken before and after it.
func TestAdminAddress(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.toml")
	own := AdminAddress(filepath.Join(dir, "none.toml"))
	if !strings.HasPrefix(own, "unix:/") {
		t.Fatalf("default %q", own)
	}
	for text, want := range map[string]string{
		"":                                     own,
		"[admin]\nlisten = '127.0.0.1:9180'\n": "127.0.0.1:9180",
		"[admin]\nlisten = '127.0.0.1:9180'\nwombat = 1\n[sites]\n'a' = 5\n":     "127.0.0.1:9180",
		"[admin]\nlisten = 'unix:a.sock'\n":                                      "unix:" + filepath.Join(dir, "a.sock"),
		"[admin]\nlisten = 'unix:/run/a.sock'\n[sites\n":                         "unix:/run/a.sock",
		"x =\n[admin] # comment\n  listen='[::1]:9180' # comment\n[sites]\na=\n": "[::1]:9180",
		"x =\nadmin = { listen = '127.0.0.1:1' }\n":                              "127.0.0.1:1",
		"x =\nadmin.listen = '127.0.0.1:1'\n[log]\nlisten = '127.0.0.1:2'\n":     "127.0.0.1:1",
		"x =\n[metrics]\nlisten = '127.0.0.1:2'\n":                               own,
		"x =\n[admin]\nlisten = '127.0.0.1:2\n":                                  own,
		"[admin]\nlisten = '0.0.0.0:9180'\n":                                     own,
		"[admin]\nlisten = 5\n":                                                  own,
		"admin = 5\n":                                                            own,
		"x =\n[admin]\nlisten = '[::1]:9180'\n[[forward]]\nlisten = ':2222'\n":   "[::1]:9180",
	} {
		write(t, file, text)
		if got := AdminAddress(file); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
