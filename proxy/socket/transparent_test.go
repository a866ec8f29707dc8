package socket

import (
	"errors"
	"net/netip"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// uncapable runs f on a thread without the capabilities that transparency
// needs. The thread ends with f's goroutine, since it stays locked.
func uncapable(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&head, &data[0])
		data[0].Effective &^= 1<<unix.CAP_NET_RAW | 1<<unix.CAP_NET_ADMIN
		if err == nil {
			err = unix.Capset(&head, &data[0])
		}
		if err == nil {
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTransparentWithoutCapability(t *testing.T) {
	l := listener(t)
	uncapable(t, func() {
		if err := TransparentPossible(); err != ErrNoTransparency {
			t.Errorf("TransparentPossible: %v", err)
		}
		s, err := DialTransparent(t.Context(), "tcp", l.Addr().String(), netip.MustParseAddrPort("192.0.2.7:4711"))
		if !errors.Is(err, ErrNoTransparency) {
			t.Errorf("dialed %v, %v", s, err)
		}
	})
}

// TestTransparentFamilies: what can never work is said without a connection.
func TestTransparentFamilies(t *testing.T) {
	for _, c := range []struct{ to, from string }{
		{"127.0.0.1:9", "[2001:db8::7]:4711"},
		{"[::1]:9", "192.0.2.7:4711"},
		{"[::1]:9", "[::ffff:192.0.2.7]:4711"},
	} {
		s, err := DialTransparent(t.Context(), "tcp", c.to, netip.MustParseAddrPort(c.from))
		if !errors.Is(err, ErrOtherFamily) {
			t.Errorf("%s from %s: %v, %v", c.to, c.from, s, err)
		}
	}
	if s, err := DialTransparent(t.Context(), "unix", "/nowhere", netip.MustParseAddrPort("192.0.2.7:1")); err == nil {
		t.Errorf("a Unix socket: %v", s)
	}
	if s, err := DialTransparent(t.Context(), "tcp", "127.0.0.1:9", netip.AddrPort{}); err == nil {
		t.Errorf("without an address: %v", s)
	}
}
