package socket

import (
	"errors"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestReadThatExpiresReturnsNothing: the poller may fail before it tries, and
// then the count of the Read before must not be told again.
func TestReadThatExpiresReturnsNothing(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, peer := New(fds[0], netip.AddrPort{}, netip.AddrPort{}), New(fds[1], netip.AddrPort{}, netip.AddrPort{})
	defer s.Close()
	defer peer.Close()
	until := time.Now().Add(100 * time.Millisecond)
	s.SetReadDeadline(until)
	got := make(chan int)
	go func() {
		n, _ := s.Read(make([]byte, 8))
		got <- n
	}()
	blocked(t, s)
	peer.Write([]byte("hello"))
	if n := <-got; n != 5 {
		t.Fatalf("read %d bytes", n)
	}
	<-time.After(time.Until(until) + time.Millisecond)
	if n, err := s.Read(make([]byte, 8)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %d, %v", n, err)
	}
}
