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
// that visitors stay where they are over a restart; one that was half written
// is replaced. With an error the key is good for this process alone.
func stickyKey(stateDir string) ([]byte, error) {
	path := filepath.Join(stateDir, "sticky.key")
	key, err := os.ReadFile(path)
	if err == nil && len(key) == stickyBytes {
		return key, nil
	}
	key = make([]byte, stickyBytes)
	rand.Read(key)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = writeStickyKey(path, key)
	}
	if err != nil {
		err = fmt.Errorf("the key of sticky cookies: %w", err)
	}
	return key, err
}

// writeStickyKey writes it whole or not at all.
func writeStickyKey(path string, key []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(key)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
