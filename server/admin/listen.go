package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// socketMode lets the group of the process in too.
const socketMode = 0o660

// longestPath is what fits into a sockaddr_un, less the letter of the name that
// is bound first.
const longestPath = 106

// ErrInUse is wrapped by Listen when another process answers on the socket.
var ErrInUse = errors.New("another usher answers there")

// Listen opens the admin listener: "unix:PATH", or a loopback address with a
// port. A socket that nobody serves any more is replaced, a live one is an
// error. Any other address is refused: the API has no password.
func Listen(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(path)
	}
	if err := checkLoopback(addr); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	return ln, nil
}

func checkLoopback(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("admin: %q is neither unix:PATH nor IP:PORT", addr)
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err != nil || !ip.IsLoopback() {
		return fmt.Errorf("admin: %q is not a loopback address, and the API has no password", addr)
	}
	return nil
}

// unixListener removes its socket when it is closed, if it is still its own.
type unixListener struct {
	net.Listener
	path string
	id   os.FileInfo
	once sync.Once
}

// Close implements net.Listener.
func (u *unixListener) Close() error {
	u.once.Do(func() {
		if now, err := os.Lstat(u.path); err == nil && os.SameFile(now, u.id) {
			os.Remove(u.path)
		}
	})
	return u.Listener.Close()
}

// listenUnix binds beside the path and renames over it, so that the socket is
// never there with other permissions, and under a lock, so that of two
// processes that start together one sees the other.
func listenUnix(path string) (net.Listener, error) {
	if len(path) == 0 || len(path) > longestPath {
		return nil, fmt.Errorf("admin: socket path %q must have 1 to %d bytes", path, longestPath)
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkStale(path); err != nil {
		return nil, err
	}
	return bind(path)
}

// makeDir makes the directory of the socket. One that another user made, as
// anybody can below /tmp, would let that user replace the socket.
func makeDir(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	us := uint32(os.Geteuid())
	if owner := info.Sys().(*syscall.Stat_t).Uid; us != 0 && owner != 0 && owner != us {
		return fmt.Errorf("admin: directory %q belongs to another user", dir)
	}
	return nil
}

// lock serialises processes; the file stays, since removing it would let two
// hold it.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("admin: lock %q: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// checkStale is nil when the path may be taken.
func checkStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("admin: %q is there and is not a socket", path)
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
		return fmt.Errorf("admin: socket %q: %w", path, ErrInUse)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("admin: socket %q may be in use: %w", path, err)
	}
	return nil
}

func bind(path string) (net.Listener, error) {
	fresh := path + "~"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("admin: %w", err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	ln.SetUnlinkOnClose(false)
	u := &unixListener{Listener: ln, path: path}
	if err := u.publish(fresh); err != nil {
		ln.Close()
		os.Remove(fresh)
		return nil, fmt.Errorf("admin: %w", err)
	}
	return u, nil
}

func (u *unixListener) publish(fresh string) error {
	if err := os.Chmod(fresh, socketMode); err != nil {
		return err
	}
	id, err := os.Lstat(fresh)
	if err != nil {
		return err
	}
	u.id = id
	return os.Rename(fresh, u.path)
}

// Serve answers on a listener until ctx ends, and closes it. It serves for the
// metrics listener just as well. What net/http has to say goes to faults, which
// may be nil.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, faults *log.Logger) error {
	s := &http.Server{
		Handler:           h,
		ErrorLog:          faults,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      2 * time.Minute, // a reload may take its time
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if s.Shutdown(grace) != nil {
		s.Close()
	}
	<-ended
	return nil
}
