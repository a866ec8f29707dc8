package server

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestStickyKey: the key stays, nobody else can read it, and whatever is in its
// place keeps usher from nothing.
func TestStickyKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	path := filepath.Join(dir, "sticky.key")
	get := func() []byte {
		t.Helper()
		key, err := stickyKey(dir)
		if err != nil || len(key) != stickyBytes {
			t.Fatalf("a key of %d bytes, %v", len(key), err)
		}
		return key
	}
	first := get()
	if !bytes.Equal(get(), first) {
		t.Error("the key was not kept")
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Truncate(path, 5); err != nil {
		t.Fatal(err)
	}
	second := get()
	if bytes.Equal(second, first) || !bytes.Equal(get(), second) {
		t.Error("a key that was cut short was not replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if key, err := stickyKey(dir); err == nil || len(key) != stickyBytes {
		t.Errorf("with a directory in its place: a key of %d bytes, %v", len(key), err)
	}
}
