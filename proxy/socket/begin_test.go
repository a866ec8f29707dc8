package socket

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestBegin(t *testing.T) {
	noLeak(t)
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		fd, sent, err := new(Dialer).Begin(l.Addr(), []byte("hello"))
		if err != nil || sent != 5 {
			t.Fatal(sent, err)
		}
		s := New(fd, l.Addr(), netip.AddrPort{})
		defer s.Close()
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var b [8]byte
		if n, err := c.Read(b[:]); string(b[:n]) != "hello" || err != nil {
			t.Errorf("%q, %v", b[:n], err)
		}
		if c.Remote() != s.Local() || c.Local() != l.Addr() {
			t.Errorf("from %v to %v", c.Remote(), c.Local())
		}
		NoDelay(fd)
		if v, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY); v != 1 || err != nil {
			t.Error(v, err)
		}
		if err := Guard(fd); err != nil {
			t.Error(err)
		}
		for _, o := range guards {
			if v, err := unix.GetsockoptInt(fd, o.level, o.name); v != o.value || err != nil {
				t.Errorf("option %d is %d, %v", o.name, v, err)
			}
		}
	}
}

func TestBeginFailsLikeDial(t *testing.T) {
	noLeak(t)
	l := listener(t)
	nobody := l.Addr().String()
	l.Close()
	_, _, err := new(Dialer).Begin(netip.MustParseAddrPort(nobody), []byte("hello"))
	_, want := Dial(context.Background(), "tcp", nobody)
	if !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != want.Error() {
		t.Errorf("%v, want %v", err, want)
	}
}

// TestFinish is a VM that takes its time: no packet comes back from it at first.
func TestFinish(t *testing.T) {
	noLeak(t)
	silent := netip.MustParseAddrPort(silent(t))
	d := new(Dialer)
	fd, sent, err := d.Begin(silent, []byte("hello"))
	if err != ErrWait || sent != 0 {
		t.Fatal(sent, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := d.Finish(ctx, silent, fd); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "dial tcp \""+silent.String()) {
		t.Errorf("err = %v", err)
	}
	l := listener(t)
	to := targetOf(l.Addr())
	if fd, err = newSocket(to.family); err != nil {
		t.Fatal(err)
	}
	if err := to.connect(fd); err != nil {
		t.Fatal(err)
	}
	s, err := d.Finish(context.Background(), l.Addr(), fd)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, o := range []option{{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1}, {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1}} {
		if v, err := unix.GetsockoptInt(s.fd, o.level, o.name); v != o.value || err != nil {
			t.Errorf("option %d is %d, %v", o.name, v, err)
		}
	}
	if c.Remote() != s.Local() {
		t.Errorf("from %v, %v", c.Remote(), s.Local())
	}
}

// TestItself is a port that nobody listens at and the kernel chose for our end.
func TestItself(t *testing.T) {
	fd, err := newSocket(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil { // to one of the range
		t.Fatal(err)
	}
	to := targetOf(localAddr(fd))
	if err := to.connect(fd); err != nil {
		t.Fatal(err)
	}
	if !to.itself(fd) {
		t.Errorf("connected to itself at %v, and not seen", to.to)
	}
	l := listener(t)
	other := targetOf(l.Addr())
	fd, err = newSocket(other.family)
	if err != nil {
		t.Fatal(err)
	}
	defer closeFD(fd)
	if err := other.connect(fd); err != nil || other.itself(fd) {
		t.Error(err, "not connected to itself")
	}
	first, last := ownPorts()
	if port := other.to.Port(); port < first || port > last || chosen(first-1) || !chosen(first) || !chosen(last) || chosen(last+1) {
		t.Errorf("the kernel chose %d, not one of %d to %d", port, first, last)
	}
}
