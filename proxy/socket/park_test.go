package socket

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func park(t testing.TB, s *Socket, l *Loop, deadline time.Time) chan bool {
	t.Helper()
	over := make(chan bool, 1)
	limit := time.Duration(0)
	if !deadline.IsZero() {
		limit = time.Until(deadline)
	}
	s.UseLoop(l)
	if err := s.Park(limit, resumer(func(readable bool) { over <- readable })); err != nil {
		t.Fatal(err)
	}
	return over
}

var nowhere netip.AddrPort // never changed

type resumer func(bool)

func (r resumer) Resume(readable bool) { r(readable) }

func still(t testing.TB, over chan bool) {
	t.Helper()
	select {
	case r := <-over:
		t.Fatalf("woken, readable %v", r)
	default:
	}
}

func TestParkUntilReadable(t *testing.T) {
	noLeak(t)
	l := running(t)
	s, c := pair(t)
	b := make([]byte, 10)
	for round := range 4 {
		if round%2 == 1 { // somebody has slept before
			s.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := s.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			s.SetReadDeadline(time.Time{})
		}
		over := park(t, s, l, time.Time{})
		still(t, over)
		send(t, c, "x")
		if !<-over {
			t.Fatal("not readable")
		}
		if n, err := s.Read(b); n != 1 || err != nil {
			t.Fatal(n, err)
		}
	}
	over := park(t, s, l, time.Now().Add(time.Hour))
	c.Close()
	if !<-over {
		t.Fatal("not readable at the end")
	}
}

func TestParkDeadline(t *testing.T) {
	l := running(t)
	s, c := pair(t)
	start := time.Now()
	if over := park(t, s, l, start.Add(300*time.Millisecond)); <-over {
		t.Fatal("readable")
	}
	if d := time.Since(start); d < 300*time.Millisecond || d > 1300*time.Millisecond {
		t.Errorf("after %v", d)
	}
	send(t, c, "x") // and it works on
	if n, err := s.Read(make([]byte, 10)); n != 1 || err != nil {
		t.Fatal(n, err)
	}
}

// TestParkAgain parks with other limits than the one that the loop was told
// first.
func TestParkAgain(t *testing.T) {
	l := running(t)
	s, c := pair(t)
	s.UseLoop(l)
	again := func(limit time.Duration) chan bool {
		over := make(chan bool, 1)
		if err := s.Park(limit, resumer(func(readable bool) { over <- readable })); err != nil {
			t.Fatal(err)
		}
		return over
	}
	wake := func(over chan bool) {
		send(t, c, "x")
		if !<-over {
			t.Fatal("not readable")
		}
		s.Read(make([]byte, 10))
	}
	wake(again(time.Hour))
	if <-again(200 * time.Millisecond) { // a shorter one
		t.Fatal("readable")
	}
	forgotten := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.until == 0
	}
	wake(again(200 * time.Millisecond))
	over := again(0) // none: the reminder of the one before does no harm
	eventually(t, "the reminder", forgotten)
	still(t, over)
	wake(over)
	wake(again(200 * time.Millisecond))
	over = again(time.Hour) // a longer one
	eventually(t, "another reminder", func() bool {
		c := l.chunks[0]
		c.mu.Lock()
		defer c.mu.Unlock()
		return int64(c.set) > l.Ticks()+1000
	})
	still(t, over)
	wake(over)
}

func TestParkEnds(t *testing.T) {
	for name, end := range map[string]func(s *Socket){
		"Close":    func(s *Socket) { s.Close() },
		"Abort":    func(s *Socket) { s.Abort() },
		"deadline": func(s *Socket) { s.SetReadDeadline(time.Unix(1, 0)) },
		"Detach":   func(s *Socket) { fd, _, _ := s.Detach(); unix.Close(fd) },
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			l := running(t)
			s, _ := pair(t)
			over := park(t, s, l, time.Now().Add(time.Hour))
			end(s)
			if <-over {
				t.Error("readable")
			}
		})
	}
}

func TestParkEndsWithTheLoop(t *testing.T) {
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	s, _ := pair(t)
	over := park(t, s, l, time.Now().Add(time.Hour))
	cancel()
	if err := <-ended; err != nil || <-over {
		t.Error(err)
	}
	if err := s.Park(0, nil); !isClosed(err) {
		t.Errorf("err = %v", err)
	}
	s.Close()
}

func TestParkAtOnce(t *testing.T) {
	l := running(t)
	s, c := pair(t)
	s.Unread([]byte("ahead"))
	if !<-park(t, s, l, time.Time{}) {
		t.Error("not readable with bytes read ahead")
	}
	s.Read(make([]byte, 10))
	s.SetReadDeadline(time.Unix(1, 0))
	if <-park(t, s, l, time.Time{}) {
		t.Error("readable after the deadline")
	}
	s.SetReadDeadline(time.Time{})
	send(t, c, "x")
	if !<-park(t, s, l, time.Time{}) {
		t.Error("not readable with bytes in the kernel")
	}
}

func TestParkIsExclusive(t *testing.T) {
	l := running(t)
	s, c := pair(t)
	s.UseLoop(l)
	ended := make(chan error)
	go func() { _, err := s.Read(make([]byte, 1)); ended <- err }()
	blocked(t, s)
	if err := s.Park(0, nil); err == nil {
		t.Error("parked under a reader")
	}
	send(t, c, "x")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestWatch(t *testing.T) {
	for name, loop := range map[string]func(testing.TB) *Loop{
		"loop": running,
		"none": func(testing.TB) *Loop { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			noLeak(t)
			l := loop(t)
			t.Run("FIN behind unread bytes", func(t *testing.T) {
				s, c := pair(t)
				s.UseLoop(l)
				gone := make(chan struct{})
				s.Watch(func() { close(gone) })
				send(t, c, "unread")
				c.CloseWrite()
				<-gone
			})
			t.Run("reset", func(t *testing.T) {
				s, c := pair(t)
				s.UseLoop(l)
				gone := make(chan struct{})
				s.Watch(func() { close(gone) })
				c.SetLinger(0)
				c.Close()
				<-gone
			})
			t.Run("not watched", func(t *testing.T) {
				s, c := pair(t)
				s.UseLoop(l)
				s.Watch(func() { t.Error("gone") })
				s.Watch(nil)
				c.Close()
				eventually(t, "noticed", func() bool { return s.state.Load()&hungUp != 0 })
				gone := make(chan struct{})
				s.Watch(func() { close(gone) }) // too late to see it, but told
				<-gone
			})
		})
	}
}

// TestWatchNilWaits checks that gone does not run when Watch(nil) is back.
func TestWatchNilWaits(t *testing.T) {
	l := running(t)
	for range 200 {
		s, c := pair(t)
		s.UseLoop(l)
		alive := true
		s.Watch(func() { _ = alive }) // the race detector looks
		go c.Close()
		s.Watch(nil)
		alive = false
	}
}

func TestWatchAndPark(t *testing.T) {
	l := running(t)
	s, c := pair(t)
	s.UseLoop(l)
	for range 3 {
		s.Watch(func() { t.Error("gone") })
		s.Watch(nil)
		over := park(t, s, l, time.Now().Add(time.Hour))
		send(t, c, "x")
		if !<-over {
			t.Fatal("not readable")
		}
		s.Read(make([]byte, 1))
	}
	gone := make(chan struct{})
	s.Watch(func() { close(gone) })
	c.Close()
	<-gone
}

// TestParkedSocketIsSmall measures what the documentation promises.
func TestParkedSocketIsSmall(t *testing.T) {
	if raceEnabled {
		return // the race detector makes everything larger
	}
	l := running(t)
	const n = 500
	sockets := make([]*Socket, n)
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	fds := make([][2]int, n)
	for i := range fds {
		p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(p[1])
		fds[i] = p
	}
	before := heap()
	f := resumer(func(bool) {})
	for i := range sockets {
		s := New(fds[i][0], listenerAddr, nowhere)
		s.UseLoop(l)
		s.SetReadDeadline(time.Now().Add(time.Millisecond)) // has waited
		s.Read(make([]byte, 1))
		s.SetReadDeadline(time.Time{})
		if err := s.Park(time.Hour, f); err != nil {
			t.Fatal(err)
		}
		sockets[i] = s
	}
	per := int64(heap()-before) / n
	t.Logf("%d bytes each", per)
	if per > 400 {
		t.Errorf("a parked socket takes %d bytes", per)
	}
	for _, s := range sockets {
		s.Close()
	}
}
