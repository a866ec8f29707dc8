package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Builds makes each binary at most once, when a test first needs it.
type Builds struct {
	Dir string // where they go
	mu  sync.Mutex
	got map[string]string
}

// Usher is the binary; race says whether it carries the race detector, which
// costs memory and time and so is left out where those are measured.
func (b *Builds) Usher(t testing.TB, race bool) string {
	t.Helper()
	if !race {
		return b.build(t, "usher", "..", "./cmd/usher")
	}
	return b.build(t, "usher-race", "..", "-race", "./cmd/usher")
}

// pebble is the ACME test server.
func (b *Builds) pebble(t testing.TB) string {
	t.Helper()
	return b.build(t, "pebble", ".", "github.com/letsencrypt/pebble/v2/cmd/pebble")
}

func (b *Builds) build(t testing.TB, name, dir string, args ...string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if path, ok := b.got[name]; ok {
		return path
	}
	path, err := filepath.Abs(filepath.Join(b.Dir, name))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", append([]string{"build", "-o", path}, args...)...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(fmt.Errorf("building %s: %w\n%s", name, err, out))
	}
	if b.got == nil {
		b.got = map[string]string{}
	}
	b.got[name] = path
	return path
}
