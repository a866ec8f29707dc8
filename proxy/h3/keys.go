package h3

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/quic-go/quic-go"
)

// keysFile is in StateDir: a mark, the key of stateless resets (RFC 9000
// section 10.3) and that of address validation tokens (section 8.1).
const (
	keysFile = "http3.keys"
	keysMark = "usher h3 keys 1\n"
)

// keys outlive the process, so that a client whose connection a restart ended
// is told at once, and one that was here before needs no Retry.
type keys struct {
	reset quic.StatelessResetKey
	token quic.TokenGeneratorKey
}

// loadKeys reads the keys in dir or makes them; without a dir they are made
// for this process only. A file that is not whole counts as absent.
func loadKeys(dir string) (*keys, error) {
	if dir == "" {
		return newKeys(), nil
	}
	path := filepath.Join(dir, keysFile)
	b, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keys of HTTP/3: %w", err)
	}
	if k := parseKeys(b); k != nil {
		return k, nil
	}
	k := newKeys()
	if err := saveKeys(path, k, err == nil); err != nil {
		return nil, fmt.Errorf("keys of HTTP/3: %w", err)
	}
	b, err = os.ReadFile(path) // another process may have been first
	if err != nil {
		return nil, fmt.Errorf("keys of HTTP/3: %w", err)
	}
	if stored := parseKeys(b); stored != nil {
		return stored, nil
	}
	return k, nil
}

func newKeys() *keys {
	k := new(keys)
	rand.Read(k.reset[:])
	rand.Read(k.token[:])
	return k
}

// parseKeys returns nil for anything but a whole file.
func parseKeys(b []byte) *keys {
	k := new(keys)
	if len(b) != len(keysMark)+len(k.reset)+len(k.token) || string(b[:len(keysMark)]) != keysMark {
		return nil
	}
	b = b[len(keysMark):]
	copy(k.token[:], b[copy(k.reset[:], b):])
	return k
}

// saveKeys writes a file beside path and gives it the name once it is whole.
// Unless it is to replace a broken one, the first of several processes wins.
func saveKeys(path string, k *keys, replace bool) error {
	f, err := os.CreateTemp(filepath.Dir(path), keysFile+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(append([]byte(keysMark), k.reset[:]...), k.token[:]...))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(f.Name(), path)
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return os.Rename(f.Name(), path) // no hard links here
	}
	return nil
}
