package socket

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestAcceptedSocketsInheritOptions(t *testing.T) {
	s, _ := pair(t)
	for name, o := range map[string]option{
		"keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"idle":       {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		"interval":   {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 15},
		"no delay":   {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		"timeout":    {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 0},
	} {
		if v, err := unix.GetsockoptInt(s.fd, o.level, o.name); v != o.value || err != nil {
			t.Errorf("%s = %d, %v", name, v, err)
		}
	}
	if fl, _ := unix.FcntlInt(uintptr(s.fd), unix.F_GETFD, 0); fl&unix.FD_CLOEXEC == 0 {
		t.Error("children inherit the socket")
	}
}

func TestListenBothFamilies(t *testing.T) {
	for _, addr := range []string{":0", "[::]:0"} {
		l, err := Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		for _, host := range []string{"127.0.0.1", "::1"} {
			c, err := net.Dial("tcp", net.JoinHostPort(host, port))
			if err != nil {
				t.Fatal(err)
			}
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if s.Remote().Addr().String() != host || s.Local().Addr().String() != host {
				t.Errorf("remote %v, local %v", s.Remote(), s.Local())
			}
			s.Close()
			c.Close()
		}
		l.Close()
	}
}

func TestListenOneFamily(t *testing.T) {
	for addr, other := range map[string]string{"0.0.0.0:0": "::1", "[::1]:0": "127.0.0.1"} {
		l, err := Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(l.Addr().String())
		if c, err := net.Dial("tcp", net.JoinHostPort(other, port)); err == nil {
			t.Errorf("%s is reached through %s", addr, other)
			c.Close()
		}
		l.Close()
	}
}

// TestSocketsShareTheirOrigin is about sockets of a listener of all addresses.
func TestSocketsShareTheirOrigin(t *testing.T) {
	l, err := Listen("0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var origins []*origin
	for _, host := range []string{"127.0.0.1", "127.0.0.1", "127.0.0.2"} {
		at := netip.AddrPortFrom(netip.MustParseAddr(host), l.Addr().Port())
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if s.Local() != at {
			t.Errorf("local %v, want %v", s.Local(), at)
		}
		origins = append(origins, s.origin)
	}
	if origins[0] != origins[1] || origins[0] == origins[2] || l.Open() != 3 {
		t.Errorf("origins %p, of %d", origins, l.Open())
	}
}

func TestRemoteAddresses(t *testing.T) {
	for _, text := range []string{"192.0.2.1:1", "[2001:db8::1]:65535", "[fe80::1%eth0]:80", "[::]:0", "0.0.0.0:0"} {
		a := netip.MustParseAddrPort(text)
		s := New(-1, a, listenerAddr)
		s.Unread([]byte("x"))
		if s.Remote() != a || s.Local() != listenerAddr || s.RemoteAddr().String() != text {
			t.Errorf("remote %v, local %v, want %v", s.Remote(), s.Local(), a)
		}
	}
	if s := New(-1, nowhere, nowhere); s.Remote().IsValid() || s.Local().IsValid() {
		t.Errorf("remote %v, local %v", s.Remote(), s.Local())
	}
}

func TestListenFails(t *testing.T) {
	l := listener(t)
	_, err := Listen(l.Addr().String())
	if want := `listen "` + l.Addr().String() + `": bind: address already in use`; err == nil || err.Error() != want {
		t.Errorf("err = %v, want %s", err, want)
	}
	for _, addr := range []string{"", "127.0.0.1", "127.0.0.1:http:1", "[::1", "192.0.2.1:0"} {
		if l, err := Listen(addr); err == nil {
			t.Errorf("listens on %q", addr)
			l.Close()
		}
	}
}

func TestListenerCloseUnblocksAccept(t *testing.T) {
	noLeak(t)
	l := listener(t)
	ended := make(chan error)
	for range 2 {
		go func() { _, err := l.Accept(); ended <- err }()
	}
	l.Close()
	for range 2 {
		if err := <-ended; !isClosed(err) {
			t.Errorf("err = %v", err)
		}
	}
	if err := l.Close(); !isClosed(err) {
		t.Errorf("closed again: %v", err)
	}
}

func TestListenerCountsOpenSockets(t *testing.T) {
	l := listener(t)
	var sockets []*Socket
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, s)
	}
	if n := l.Open(); n != 3 {
		t.Fatalf("Open = %d", n)
	}
	sockets[0].Close()
	sockets[1].Abort()
	fd, _, _ := sockets[2].Detach()
	unix.Close(fd)
	if n := l.Open(); n != 0 {
		t.Errorf("Open = %d at the end", n)
	}
}

func TestListenFile(t *testing.T) {
	noLeak(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := inner.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	inner.Close()
	l, err := ListenFile(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	defer l.Close()
	c, err := Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if v, _ := unix.GetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 1 {
		t.Error("no keep-alive")
	}
}

func TestListenFileRefuses(t *testing.T) {
	noLeak(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := ListenFile(r); err == nil {
		t.Error("a pipe is a listener")
	}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := ListenFile(f); err == nil {
		t.Error("a Unix listener is one for TCP")
	}
}

// TestAcceptRestsWithoutDescriptors uses all descriptors up: Accept must
// neither fail nor spin, and go on when there are some.
func TestAcceptRestsWithoutDescriptors(t *testing.T) {
	l := listener(t)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	restore := exhaust(t)
	defer restore()
	accepted := make(chan *Socket)
	go func() {
		s, _ := l.Accept()
		accepted <- s
	}()
	eventually(t, "two pauses", func() bool { return l.Pauses() >= 2 })
	var before, after syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	eventually(t, "five pauses", func() bool { return l.Pauses() >= 5 })
	syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	if used := after.Utime.Nano() - before.Utime.Nano(); used > 100e6 {
		t.Errorf("%d ms of processor time while it rests", used/1e6)
	}
	restore()
	(<-accepted).Close()
}

// exhaust lowers the limit of descriptors to those that are open.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3) // the lowest that is free
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(fd), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
}

func TestCloseEndsTheRestOfAccept(t *testing.T) {
	l := listener(t)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	restore := exhaust(t)
	defer restore()
	ended := make(chan error)
	go func() { _, err := l.Accept(); ended <- err }()
	eventually(t, "a pause", func() bool { return l.Pauses() > 0 })
	l.Close()
	if err := <-ended; !isClosed(err) {
		t.Errorf("err = %v", err)
	}
}

// TestKernelKeepsLittle for a client that does not read.
func TestKernelKeepsLittle(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	if err := c.SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	s.SetWriteTimeout(100 * time.Millisecond)
	n, err := s.Write(make([]byte, 8<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n > 1<<20 {
		t.Errorf("%d bytes were taken, %v", n, err)
	}
}
