package tls

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// lockPoll is how often a lock that another holder has is tried again.
const lockPoll = 100 * time.Millisecond

// locks are named locks that exclude other holders in this process and in
// others on the same directory. The kernel releases those of a process that
// dies, so that nobody waits for it.
type locks struct {
	dir  string
	mu   sync.Mutex
	held map[string]*os.File
}

// lock waits for the lock of that name, a safe file name, until ctx ends.
func (l *locks) lock(ctx context.Context, name string) error {
	for {
		ok, err := l.tryLock(name)
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPoll):
		}
	}
}

func (l *locks) tryLock(name string) (bool, error) {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return false, err
	}
	path := l.path(name)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return false, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil || !isFileAt(f, path) {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			err = nil
		}
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(map[string]*os.File)
	}
	l.held[name] = f
	return true, nil
}

// isFileAt is false when the last holder removed the file after it was opened.
func isFileAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// unlock removes the file before it lets go of it, so that files of names that
// went do not pile up.
func (l *locks) unlock(name string) error {
	l.mu.Lock()
	f := l.held[name]
	delete(l.held, name)
	l.mu.Unlock()
	if f == nil {
		return errors.New("not locked: " + name)
	}
	err := os.Remove(l.path(name))
	return errors.Join(err, f.Close())
}

func (l *locks) path(name string) string { return filepath.Join(l.dir, name+".lock") }
