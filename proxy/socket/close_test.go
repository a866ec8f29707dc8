package socket

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) && errors.Is(err, os.ErrClosed) }

func TestCloseUnblocks(t *testing.T) {
	for name, wait := range map[string]func(*Socket) error{
		"Read":         func(s *Socket) error { _, err := s.Read(make([]byte, 1)); return err },
		"WaitReadable": func(s *Socket) error { return s.WaitReadable(time.Time{}) },
		"Write":        func(s *Socket) error { _, err := s.Write(make([]byte, 64<<20)); return err },
	} {
		for how, end := range map[string]func(*Socket) error{
			"Close":  (*Socket).Close,
			"Abort":  (*Socket).Abort,
			"Detach": func(s *Socket) error { fd, _, err := s.Detach(); unix.Close(fd); return err },
		} {
			t.Run(name+"/"+how, func(t *testing.T) {
				noLeak(t)
				s, _ := pair(t)
				ended := make(chan error)
				go func() { ended <- wait(s) }()
				blocked(t, s)
				if err := end(s); err != nil {
					t.Fatal(err)
				}
				if err := <-ended; !isClosed(err) {
					t.Fatalf("err = %v", err)
				}
				if err := end(s); !isClosed(err) && how != "Detach" {
					t.Errorf("again: %v", err)
				}
			})
		}
	}
}

func TestUseAfterClose(t *testing.T) {
	s, _ := pair(t)
	s.Close()
	_, read := s.Read(make([]byte, 1))
	_, write := s.Write([]byte("x"))
	_, buffers := s.WriteBuffers([]byte("x"))
	_, _, detach := s.Detach()
	for i, err := range []error{read, write, buffers, detach, s.CloseWrite(), s.Close(), s.Abort(),
		s.WaitReadable(time.Time{}), s.Park(0, nil), s.CloseLinger(1, time.Second)} {
		if !isClosed(err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	s.SetDeadline(time.Now())
	s.Watch(func() { t.Error("gone") })
}

func TestCloseWriteKeepsReading(t *testing.T) {
	s, c := pair(t)
	if err := s.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Fatal(b, err)
	}
	send(t, c, "still")
	c.Close()
	if b, err := io.ReadAll(s); string(b) != "still" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
}

func TestAbortResets(t *testing.T) {
	s, c := pair(t)
	s.Abort()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("err = %v", err)
	}
}

// TestCloseLinger has a peer that is still sending as it is refused: closing
// at once would reset the connection and could take the answer with it.
func TestCloseLinger(t *testing.T) {
	noLeak(t)
	s, c := pair(t)
	send(t, c, "a request that nobody reads")
	s.Write([]byte("no"))
	done := make(chan error)
	go func() { done <- s.CloseLinger(64<<10, time.Minute) }()
	if b, err := io.ReadAll(c); string(b) != "no" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	send(t, c, "more of it")
	c.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestCloseLingerIsBounded(t *testing.T) {
	s, c := pair(t)
	if err := s.CloseLinger(64<<10, 20*time.Millisecond); err != nil { // nobody closes
		t.Fatal(err)
	}
	s, c = pair(t)
	go func() { // sends for ever, until the reset
		for {
			if _, err := c.Write(make([]byte, 32<<10)); err != nil {
				return
			}
		}
	}()
	if err := s.CloseLinger(64<<10, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestDetach(t *testing.T) {
	for _, waited := range []bool{false, true} {
		noLeak(t)
		s, c := pair(t)
		s.Unread([]byte("ahead"))
		if waited {
			s.join()
		}
		fd, ahead, err := s.Detach()
		if err != nil || string(ahead) != "ahead" {
			t.Fatalf("%q, %v", ahead, err)
		}
		send(t, c, "x")
		again := New(fd, s.Remote(), s.Local())
		if n, err := again.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		s.Close() // has no effect on the descriptor any more
		send(t, c, "y")
		if n, err := again.Read(make([]byte, 9)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		again.Close()
	}
}

// TestNoCallMeetsAForeignDescriptor ends sockets in every way while others use
// them, and meanwhile opens new descriptors that would get the freed numbers.
// Each of these carries one byte that only its own reader may take, and stays
// silent and open otherwise.
func TestNoCallMeetsAForeignDescriptor(t *testing.T) {
	noLeak(t)
	loop := running(t)
	stop := make(chan struct{})
	var strangers sync.WaitGroup
	for range 2 {
		strangers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					stranger(t)
				}
			}
		})
	}
	ends := []func(*Socket){
		func(s *Socket) { s.Close() },
		func(s *Socket) { s.Abort() },
	}
	for i := range 200 {
		contend(t, loop, ends[i%len(ends)], i/2%5)
	}
	close(stop)
	strangers.Wait()
}

func stranger(t *testing.T) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	unix.Write(p[0], []byte{'!'})
	time.Sleep(50 * time.Microsecond)
	b := make([]byte, 8)
	if n, err := unix.Read(p[1], b); n != 1 || err != nil || b[0] != '!' {
		t.Errorf("a stranger's byte was taken: %d, %q, %v", n, b[:max(n, 0)], err)
	}
	if n, err := unix.Read(p[0], b); err != unix.EAGAIN {
		t.Errorf("a stranger got %d bytes or was shut down: %v", n, err)
	}
}

// contend uses one Socket from everywhere at once and then ends it.
func contend(t *testing.T, loop *Loop, end func(*Socket), reader int) {
	s, c := pair(t)
	s.UseLoop(loop)
	readers := []func(){
		func() { s.Read(make([]byte, 8)) },
		func() { s.WaitReadable(time.Time{}) },
		func() { s.CloseLinger(1, time.Millisecond) },
		func() {
			if fd, _, err := s.Detach(); err == nil {
				unix.Close(fd)
			}
		},
		func() {
			over := make(chan bool)
			if s.Park(0, resumer(func(r bool) { over <- r })) == nil {
				<-over
			}
		},
	}
	users := []func(){
		readers[reader],
		func() { s.Write(make([]byte, 1<<20)) },
		func() { s.Idle() },
		func() { s.CloseWrite() },
		func() { s.SetReadDeadline(time.Unix(1, 0)); s.SetReadDeadline(time.Time{}) },
		func() { s.Watch(func() {}); s.Watch(nil) },
		func() { s.Local() },
		func() { c.Close() },
		func() { end(s) },
		func() { end(s) },
	}
	var wg sync.WaitGroup
	for _, use := range users {
		wg.Go(use)
	}
	wg.Wait()
}

func TestCloseDuringDial(t *testing.T) {
	noLeak(t)
	l := listener(t)
	for range 50 {
		ctx, cancel := context.WithCancel(context.Background())
		go cancel()
		if s, err := Dial(ctx, "tcp", l.Addr().String()); err == nil {
			s.Close()
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
}
