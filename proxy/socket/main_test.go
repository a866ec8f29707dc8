package socket

import (
	"context"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller now, not while a test counts
		r.Close()
		w.Close()
	}
	goleak.VerifyTestMain(m)
}

// descriptors counts the open descriptors of the process.
func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// eventually waits for a state that another goroutine or the kernel brings
// about.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// noLeak checks at the end that the test gave all descriptors back.
func noLeak(t testing.TB) {
	before := descriptors(t)
	t.Cleanup(func() {
		eventually(t, "as few descriptors as before", func() bool { return descriptors(t) <= before })
	})
}

func listener(t testing.TB) *Listener {
	t.Helper()
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair is an accepted Socket and the peer's end of it.
func pair(t testing.TB) (*Socket, *net.TCPConn) {
	t.Helper()
	l := listener(t)
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s, c.(*net.TCPConn)
}

// dialed is a dialed Socket and the peer's end of it.
func dialed(t testing.TB) (*Socket, *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := Dial(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return s, c.(*net.TCPConn)
}

// running is a Loop that runs until the end of the test.
func running(t testing.TB) *Loop {
	t.Helper()
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
	return l
}

func send(t testing.TB, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// blocked waits until a goroutine sleeps in s.
func blocked(t testing.TB, s *Socket) {
	t.Helper()
	eventually(t, "somebody waits", func() bool {
		return s.in.news.Load() == awaited || s.out.news.Load() == awaited
	})
}
