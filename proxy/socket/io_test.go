package socket

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestReadAheadComesFirst(t *testing.T) {
	s, c := pair(t)
	send(t, c, "world")
	s.Unread([]byte("lo "))
	s.Unread([]byte("hel"))
	if got := string(s.Ahead()); got != "hello " {
		t.Fatalf("Ahead = %q", got)
	}
	if s.Idle() {
		t.Error("idle with bytes read ahead")
	}
	c.CloseWrite()
	b, err := io.ReadAll(s)
	if string(b) != "hello world" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestReadWaits(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	go func() {
		blocked(t, s)
		c.Write([]byte("x"))
	}()
	b := make([]byte, 10)
	if n, err := s.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	go func() {
		blocked(t, s)
		c.Close()
	}()
	if _, err := s.Read(b); err != io.EOF {
		t.Fatalf("err = %v", err)
	}
}

func TestReadReset(t *testing.T) {
	s, c := pair(t)
	c.SetLinger(0)
	c.Close()
	_, err := s.Read(make([]byte, 1))
	if !errors.Is(err, syscall.ECONNRESET) || err.Error() != "read: connection reset by peer" {
		t.Fatalf("err = %v", err)
	}
}

func TestReadDeadline(t *testing.T) {
	s, c := pair(t)
	b := make([]byte, 10)
	s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	send(t, c, "x")
	if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("after the deadline: %v", err)
	}
	s.SetReadDeadline(time.Now().Add(time.Hour))
	if n, err := s.Read(b); n != 1 || err != nil {
		t.Fatalf("with a new deadline: %d, %v", n, err)
	}
	s.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("with a shorter one: %v", err)
	}
}

func TestReadDeadlineInThePast(t *testing.T) {
	s, c := pair(t)
	send(t, c, "x")
	s.SetReadDeadline(time.Now().Add(-time.Second))
	b := make([]byte, 10)
	if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	if err := s.WaitReadable(time.Time{}); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("WaitReadable: %v", err)
	}
	s.SetReadDeadline(time.Time{})
	if n, err := s.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

func TestDeadlineMovesWhileReadWaits(t *testing.T) {
	s, c := pair(t)
	s.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
	go func() {
		blocked(t, s)
		s.SetReadDeadline(time.Now().Add(time.Hour)) // later
		time.AfterFunc(60*time.Millisecond, func() { c.Write([]byte("x")) })
	}()
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatalf("extended: %v", err)
	}
	go func() {
		blocked(t, s)
		s.SetReadDeadline(time.Unix(1, 0)) // as Stop and drain do it
	}()
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("cut short: %v", err)
	}
}

func TestWaitReadable(t *testing.T) {
	s, c := pair(t)
	if err := s.WaitReadable(time.Now().Add(10 * time.Millisecond)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	go func() {
		blocked(t, s)
		c.Write([]byte("x"))
	}()
	if err := s.WaitReadable(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.WaitReadable(time.Time{}); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if n, err := s.Read(b); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c.Close()
	if err := s.WaitReadable(time.Time{}); err != nil {
		t.Fatalf("at the end: %v", err)
	}
	if _, err := s.Read(b); err != io.EOF {
		t.Fatal(err)
	}
}

func TestIdle(t *testing.T) {
	s, c := dialed(t)
	if !s.Idle() {
		t.Error("not idle at first")
	}
	send(t, c, "x")
	eventually(t, "busy", func() bool { return !s.Idle() })
	s.Read(make([]byte, 1))
	if !s.Idle() {
		t.Error("not idle when all is read")
	}
	c.Close()
	eventually(t, "closed by the peer", func() bool { return !s.Idle() })
	s.Close()
	if s.Idle() {
		t.Error("a closed socket is idle")
	}
}

// transfer checks that size bytes go through write and come out of read.
func transfer(t *testing.T, size int, w io.Writer, r io.Reader) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	var wg sync.WaitGroup
	wg.Go(func() {
		if n, err := w.Write(data); n != size || err != nil {
			t.Errorf("Write = %d, %v", n, err)
		}
	})
	got := make([]byte, size)
	if _, err := io.ReadFull(r, got); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if !bytes.Equal(data, got) {
		t.Error("other bytes arrived")
	}
}

func TestTransferBothWaysAtOnce(t *testing.T) {
	s, c := pair(t)
	var wg sync.WaitGroup
	wg.Go(func() { transfer(t, 16<<20, s, c) })
	wg.Go(func() { transfer(t, 16<<20, c, s) })
	wg.Wait()
}

func TestWriteBuffers(t *testing.T) {
	s, c := pair(t)
	small, large := []byte("head"), make([]byte, 8<<20)
	rand.Read(large)
	var wg sync.WaitGroup
	wg.Go(func() {
		n, err := s.WriteBuffers(small, nil, large, small)
		if n != int64(len(large)+8) || err != nil {
			t.Errorf("WriteBuffers = %d, %v", n, err)
		}
		s.CloseWrite()
	})
	got, err := io.ReadAll(c)
	wg.Wait()
	want := append(append([]byte("head"), large...), "head"...)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// fill writes until the kernel takes no more.
func fill(t testing.TB, s *Socket) {
	t.Helper()
	s.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := s.Write(make([]byte, 64<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("fill: %v", err)
	}
	s.SetWriteDeadline(time.Time{})
}

func TestWriteTimeoutWithoutProgress(t *testing.T) {
	s, _ := pair(t)
	fill(t, s)
	s.SetWriteTimeout(50 * time.Millisecond)
	start := time.Now()
	_, err := s.Write(make([]byte, 1<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("err = %v", err)
	}
	if d := time.Since(start); d < 50*time.Millisecond {
		t.Errorf("gave up after %v", d)
	}
}

// TestSlowReaderIsProgress has a reader that takes a little now and then, far
// less than what makes the kernel call the writer's socket writable.
func TestSlowReaderIsProgress(t *testing.T) {
	s, c := pair(t)
	unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<20)
	c.SetReadBuffer(64 << 10)
	fill(t, s)
	const timeout = 300 * time.Millisecond
	s.SetWriteTimeout(timeout)
	done := make(chan error, 1)
	go func() {
		_, err := s.Write(make([]byte, 8<<20))
		done <- err
	}()
	b := make([]byte, 96<<10)
	for range 15 { // well beyond the timeout, and nearer to it than a fast reader
		select {
		case err := <-done:
			t.Fatalf("Write ended: %v", err)
		case <-time.After(timeout / 3):
		}
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("with a reader that stopped: %v", err)
	}
}

func TestWriteToClosedPeer(t *testing.T) {
	s, c := pair(t)
	c.SetLinger(0)
	c.Close()
	var err error
	eventually(t, "an error", func() bool {
		_, err = s.Write([]byte("x"))
		return err != nil
	})
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("err = %v", err)
	}
}

func TestAddresses(t *testing.T) {
	l, err := Listen(":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port())
	c, err := net.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := s.Local(); got != to {
		t.Errorf("Local = %v", got)
	}
	if got := s.Remote().String(); got != c.LocalAddr().String() {
		t.Errorf("Remote = %v", got)
	}
	if s.LocalAddr().String() != to.String() || s.RemoteAddr().String() != c.LocalAddr().String() {
		t.Errorf("%v, %v", s.LocalAddr(), s.RemoteAddr())
	}
}

func TestSteadyReadAndWriteAllocateNothing(t *testing.T) {
	if raceEnabled {
		return // the race detector allocates
	}
	s, c := pair(t)
	go io.Copy(c, c)
	p := make([]byte, 100)
	a, b := p[:40], p[40:]
	echo := func() {
		s.SetReadDeadline(time.Now().Add(time.Hour))
		if _, err := s.WriteBuffers(a, b); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write(p); err != nil {
			t.Fatal(err)
		}
		for n := 0; n < 200; {
			s.WaitReadable(time.Time{})
			m, err := s.Read(p)
			if n += m; err != nil {
				t.Fatal(err)
			}
		}
		s.Idle()
		s.Watch(nil)
	}
	echo()
	if n := testing.AllocsPerRun(200, echo); n > 0.1 {
		t.Errorf("%v allocations per exchange", n)
	}
	runtime.KeepAlive(s)
}
