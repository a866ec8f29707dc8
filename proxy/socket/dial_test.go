package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestDialSetsOptions(t *testing.T) {
	s, c := dialed(t)
	for name, o := range map[string]option{
		"keep-alive": {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		"idle":       {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 15},
		"no delay":   {unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		"timeout":    {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 20000},
	} {
		if v, err := unix.GetsockoptInt(s.fd, o.level, o.name); v != o.value || err != nil {
			t.Errorf("%s = %d, %v", name, v, err)
		}
	}
	if s.Local().String() != c.RemoteAddr().String() || s.Remote().String() != c.LocalAddr().String() {
		t.Errorf("local %v, remote %v", s.Local(), s.Remote())
	}
}

// TestOneLostProbeEndsNothing: the kernel ends a connection with the first
// keep-alive timer that fires after the user timeout, if a probe is unanswered
// then. All that were sent before must have been lost for that.
func TestOneLostProbeEndsNothing(t *testing.T) {
	s, _ := dialed(t)
	get := func(name int) int {
		v, err := unix.GetsockoptInt(s.fd, unix.IPPROTO_TCP, name)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	idle, every, timeout := get(unix.TCP_KEEPIDLE), get(unix.TCP_KEEPINTVL), get(unix.TCP_USER_TIMEOUT)/1000
	if probes := (timeout - idle + every - 1) / every; probes < 3 {
		t.Errorf("%d probes: after %d s, every %d s, until %d s", probes, idle, every, timeout)
	}
}

func TestDialUnix(t *testing.T) {
	noLeak(t)
	path := t.TempDir() + "/vm.sock"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := Dial(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Remote().IsValid() || s.Local().IsValid() || s.RemoteAddr().Network() != "unix" {
		t.Errorf("remote %v, local %v", s.Remote(), s.Local())
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, "hi")
	c.Close()
	if b, err := io.ReadAll(s); string(b) != "hi" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestDialFails(t *testing.T) {
	noLeak(t)
	l := listener(t)
	nobody := l.Addr().String()
	l.Close()
	for _, c := range []struct {
		network, addr string
		want          error
		text          string
	}{
		{"tcp", nobody, syscall.ECONNREFUSED, "connect: connection refused"},
		{"unix", t.TempDir() + "/none", syscall.ENOENT, "no such file"},
		{"unix", strings.Repeat("x", 200), syscall.EINVAL, "invalid argument"},
		{"tcp", "255.255.255.255:1", syscall.ENETUNREACH, "unreachable"},
		{"tcp", "example.com:80", nil, "example.com"},
		{"tcp", "127.0.0.1", nil, "127.0.0.1"},
		{"tcp", "[fe80::1%nowhere0]:80", nil, `zone "nowhere0"`},
		{"udp", "127.0.0.1:1", nil, "unknown network"},
	} {
		s, err := Dial(context.Background(), c.network, c.addr)
		if err == nil {
			s.Close()
			t.Errorf("%s: connected", c.addr)
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) && c.want != syscall.ENETUNREACH || !strings.HasPrefix(err.Error(), "dial "+c.network) {
			t.Errorf("%s: %v", c.addr, err)
		}
		if c.want != syscall.ENETUNREACH && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v lacks %q", c.addr, err, c.text)
		}
	}
}

// silent is an address that does not answer a connect: a listener whose
// backlog is full.
func silent(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	addr := localAddr(fd).String()
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		s, err := Dial(ctx, "tcp", addr)
		cancel()
		if err != nil {
			return addr
		}
		t.Cleanup(func() { s.Close() })
	}
	t.Fatal("the backlog never fills")
	return ""
}

func TestDialEndsWithItsContext(t *testing.T) {
	addr := silent(t)
	noLeak(t)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, "tcp", addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
	if _, err := Dial(ctx, "tcp", addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with an old context: %v", err)
	}
	ctx, cancel = context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Dial(ctx, "tcp", addr); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
}

func TestDialUnixWaitsForTheBacklog(t *testing.T) {
	noLeak(t)
	path := t.TempDir() + "/vm.sock"
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := Dial(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, "unix", path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	time.AfterFunc(20*time.Millisecond, func() {
		if c, _, err := unix.Accept(fd); err == nil {
			unix.Close(c)
		}
	})
	second, err := Dial(context.Background(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
}

func TestDialFromALocalAddress(t *testing.T) {
	l := listener(t)
	d := Dialer{Local: netip.MustParseAddr("127.0.0.9")}
	s, err := d.Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if c.Remote().Addr() != d.Local || s.Local().Addr() != d.Local {
		t.Errorf("from %v, %v", c.Remote(), s.Local())
	}
}

func TestDialIPv6(t *testing.T) {
	l, err := Listen("[::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Remote() != l.Addr() {
		t.Errorf("remote %v", s.Remote())
	}
}
