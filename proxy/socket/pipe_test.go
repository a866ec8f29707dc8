package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// borrowAll takes every pipe that a Loop gives away.
func borrowAll(t testing.TB, l *Loop) (all []*Pipe) {
	t.Helper()
	for p := l.BorrowPipe(); p != nil; p = l.BorrowPipe() {
		all = append(all, p)
	}
	return all
}

// piped is a Socket of l and the peer's end of it.
func piped(t testing.TB, l *Loop) (*Socket, *net.TCPConn) {
	t.Helper()
	s, peer := pair(t)
	s.UseLoop(l)
	return s, peer
}

func TestPipesAreBorrowed(t *testing.T) {
	noLeak(t)
	l := running(t)
	all := borrowAll(t, l)
	if len(all) != maxPipes {
		t.Fatalf("%d pipes were to be had, want %d", len(all), maxPipes)
	}
	before := descriptors(t)
	for _, p := range all {
		l.ReturnPipe(p)
	}
	if closed := before - descriptors(t); closed != 2*(maxPipes-sparePipes) {
		t.Errorf("%d descriptors were closed, want those of all but %d pipes", closed, sparePipes)
	}
	p := l.BorrowPipe()
	if p != all[sparePipes-1] {
		t.Error("the last one returned was not lent first")
	}
	l.ReturnPipe(p)
	// noLeak: those that nobody needs are closed.
	eventually(t, "no spare pipes", func() bool { return descriptors(t) <= before-2*maxPipes })
	if again := borrowAll(t, l); len(again) != maxPipes {
		t.Errorf("%d pipes were to be had the second time, want %d", len(again), maxPipes)
	} else {
		for _, p := range again {
			l.ReturnPipe(p)
		}
	}
}

// TestPipeIsReturnedAfterTheEnd of its Loop: it is closed, and no other is lent.
func TestPipeIsReturnedAfterTheEnd(t *testing.T) {
	noLeak(t)
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	spare, used := l.BorrowPipe(), l.BorrowPipe()
	l.ReturnPipe(spare)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	l.ReturnPipe(used)
	if p := l.BorrowPipe(); p != nil {
		t.Error("a Loop that has ended lent a pipe")
	}
}

func TestPipeWithBytesIsNotLentAgain(t *testing.T) {
	noLeak(t)
	l := running(t)
	s, peer := piped(t, l)
	send(t, peer, "secret")
	eventually(t, "something to read", func() bool { return !s.Idle() })
	p, err := s.ReadPipe(PipeSize)
	if err != nil || p.Held() != len("secret") {
		t.Fatalf("%v, %v", p, err)
	}
	s.ReturnPipe(p)
	for _, other := range borrowAll(t, l) {
		if other == p || other.Held() != 0 {
			t.Error("a pipe that holds bytes was lent")
		}
		l.ReturnPipe(other)
	}
}

// forward moves everything from one Socket to the other and returns how it ended.
func forward(from, to *Socket) error {
	for {
		if err := from.WaitPending(); err != nil {
			return err
		}
		p, err := from.ReadPipe(PipeSize)
		if err == ErrWait {
			continue
		}
		if p == nil {
			return err
		}
		err = to.WritePipe(p)
		from.ReturnPipe(p)
		if err != nil {
			return err
		}
	}
}

func TestPipesCarryEveryByte(t *testing.T) {
	noLeak(t)
	l := running(t)
	from, sender := piped(t, l)
	to, receiver := piped(t, l)
	data := make([]byte, 5<<20+17)
	rand.NewChaCha8([32]byte{}).Read(data)
	go func() {
		rest := data
		for n := 1; len(rest) > 0; n = n*7%300007 + 1 {
			n := min(n, len(rest))
			sender.Write(rest[:n])
			rest = rest[n:]
		}
		sender.CloseWrite()
	}()
	ended := make(chan error, 1)
	go func() {
		ended <- forward(from, to)
		to.CloseWrite()
	}()
	receiver.SetReadBuffer(64 << 10) // so that writing has to wait
	got, err := io.ReadAll(receiver)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("got %d bytes (%v), want %d", len(got), err, len(data))
	}
	if err := <-ended; err != io.EOF {
		t.Errorf("ended with %v, want the end", err)
	}
}

// TestReadPipeBeforeTheFirstWait: once there was nothing to read, WaitPending
// waits, although the Socket never did before.
func TestReadPipeBeforeTheFirstWait(t *testing.T) {
	s, peer := piped(t, running(t))
	if !s.Pending() {
		t.Fatal("a new Socket knows that there is nothing")
	}
	if p, err := s.ReadPipe(1); p != nil || err != ErrWait {
		t.Fatalf("%v, %v; want ErrWait", p, err)
	}
	if s.Pending() {
		t.Error("WaitPending would not wait")
	}
	waited := make(chan error, 1)
	go func() { waited <- s.WaitPending() }()
	blocked(t, s)
	send(t, peer, "x")
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	p, err := s.ReadPipe(1)
	if p == nil || p.Held() != 1 {
		t.Fatalf("%v, %v; want one byte", p, err)
	}
	s.ReturnPipe(p)
}

func TestReadPipeThatCannot(t *testing.T) {
	noLeak(t)
	l := running(t)
	for name, c := range map[string]struct {
		prepare func(s *Socket, peer *net.TCPConn)
		want    error // nil: to be copied
	}{
		"given back": {func(s *Socket, _ *net.TCPConn) { s.Unread([]byte("x")) }, nil},
		"the end":    {func(_ *Socket, peer *net.TCPConn) { peer.CloseWrite() }, io.EOF},
		"a reset":    {func(_ *Socket, peer *net.TCPConn) { peer.SetLinger(0); peer.Close() }, unix.ECONNRESET},
		"a deadline": {func(s *Socket, _ *net.TCPConn) { s.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed":     {func(s *Socket, _ *net.TCPConn) { s.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			s, peer := piped(t, l)
			c.prepare(s, peer)
			if c.want == io.EOF || c.want == unix.ECONNRESET {
				eventually(t, "the end of the peer", func() bool { return ready(s.fd, unix.POLLRDHUP) != 0 })
			}
			if p, err := s.ReadPipe(PipeSize); p != nil || !errors.Is(err, c.want) {
				t.Errorf("%v, %v; want no pipe and %v", p, err, c.want)
			}
		})
	}
	t.Run("no pipe", func(t *testing.T) {
		all := borrowAll(t, l)
		s, peer := piped(t, l)
		send(t, peer, "x")
		if p, err := s.ReadPipe(PipeSize); p != nil || err != nil {
			t.Errorf("%v, %v; want that bytes have to be copied", p, err)
		}
		for _, p := range all {
			l.ReturnPipe(p)
		}
	})
	if all := borrowAll(t, l); len(all) != maxPipes {
		t.Errorf("%d pipes are left, want %d", len(all), maxPipes)
	} else {
		for _, p := range all {
			l.ReturnPipe(p)
		}
	}
}

// TestWritePipeToOneWhoDoesNotRead: however much was taken before, the write
// timeout, a deadline and Close end it.
func TestWritePipeToOneWhoDoesNotRead(t *testing.T) {
	noLeak(t)
	l := running(t)
	for name, c := range map[string]struct {
		prepare, late func(*Socket)
		want          error
	}{
		"write timeout": {func(s *Socket) { s.SetWriteTimeout(20 * time.Millisecond) }, func(*Socket) {}, os.ErrDeadlineExceeded},
		"deadline":      {func(*Socket) {}, func(s *Socket) { s.SetWriteDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed":        {func(*Socket) {}, func(s *Socket) { s.Close() }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			to, receiver := piped(t, l)
			receiver.SetReadBuffer(4 << 10)
			unix.SetsockoptInt(to.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4<<10)
			p := l.BorrowPipe()
			defer l.ReturnPipe(p)
			n, err := unix.Write(p.in, make([]byte, PipeSize)) // more than the kernel takes
			if p.held = n; err != nil || n < PipeSize/2 {
				t.Fatalf("%d bytes in the pipe, %v", n, err)
			}
			c.prepare(to)
			ended := make(chan error, 1)
			go func() { ended <- to.WritePipe(p) }()
			eventually(t, "a write that waits, or has ended", func() bool {
				return to.out.news.Load() == awaited || len(ended) > 0
			})
			c.late(to)
			select {
			case err := <-ended:
				if !errors.Is(err, c.want) {
					t.Errorf("ended with %v, want %v", err, c.want)
				}
			case <-time.After(10 * time.Second):
				t.Error("it waits for ever")
				to.Close()
				<-ended
			}
		})
	}
}

// TestWriteBegin: the kernel holds a beginning back, and Push ends that.
func TestWriteBegin(t *testing.T) {
	s, peer := pair(t)
	held := func() int {
		n, err := unix.IoctlGetInt(s.fd, unix.SIOCOUTQNSD)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n, err := s.WriteBegin([]byte("be"), nil, []byte("gin")); n != 5 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	s.Push()
	if n := held(); n != 0 {
		t.Errorf("%d bytes are held back after Push", n)
	}
	got := make([]byte, 5)
	if _, err := io.ReadFull(peer, got); err != nil || string(got) != "begin" {
		t.Errorf("got %q, %v", got, err)
	}
	s.Close()
	s.Push() // nothing happens
}
