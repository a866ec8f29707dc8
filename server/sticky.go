package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

const stickyBytes = 32

// stickyKey is the key that signs the cookies of sticky sites. It is kept, so
// that visitors stay where they are over a restart.
func stickyKey(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "sticky.key")
	key, err := os.ReadFile(path)
	switch {
	case err == nil && len(key) == stickyBytes:
		return key, nil
	case err == nil:
		return nil, fmt.Errorf("%s is no key of %d bytes: remove it to have a new one made", path, stickyBytes)
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	key = make([]byte, stickyBytes)
	rand.Read(key)
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	// Written whole or not at all: an empty key would refuse the next start.
	if err := os.WriteFile(path+".new", key, 0o600); err != nil {
		return nil, err
	}
	return key, os.Rename(path+".new", path)
}
