package tunnel

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

func TestLoopEnds(t *testing.T) {
	r := newRig(t, FromSocket)
	l, err := socket.NewLoop()
	r.check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- l.Run(ctx) }()
	r.relay = New(l)
	x := r.start(0)
	r.send(x.client, "x")
	r.receive(x.vm, "x")
	cancel()
	r.check(<-ended)
	r.receiveEnd(x.client, syscall.ECONNRESET)
	r.ends(Result{1, 0, message.UsherSide, "drain"})
	r.start(0) // too late
	r.ends(Result{0, 0, message.UsherSide, "drain"})
}

// TestCopiesWithoutPipes has a long flow while all pipes are in use.
func TestCopiesWithoutPipes(t *testing.T) {
	r := newRig(t, FromSocket)
	loop := r.relay.lanes[0].loop
	var all []*socket.Pipe
	for p := loop.BorrowPipe(); p != nil; p = loop.BorrowPipe() {
		all = append(all, p)
	}
	x := r.start(0)
	long(t, x.client, x.vm)
	long(t, x.vm, x.client)
	if loop.BorrowPipe() != nil {
		t.Error("a pipe came back that nobody had")
	}
	for _, p := range all {
		loop.ReturnPipe(p)
	}
	x.Abort("enough")
	<-r.results
}

// TestNoDescriptors has none left: a tunnel needs none beside its two ends, and
// a long flow does without a pipe.
func TestNoDescriptors(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, near, far := r.sockets()
	if err := near.WaitReadable(time.Now().Add(time.Millisecond)); err == nil {
		t.Fatal("readable")
	}
	restore := exhaust(t)
	defer restore()
	x := r.relay.Start(FromSocket(near), FromSocket(far), 0, func(res Result) { r.results <- res })
	long(t, client, vm)
	long(t, vm, client)
	x.Abort("enough")
	<-r.results
}

// TestReadAheadIsLent has more read ahead than the VM takes at once, in memory
// that is used for something else after Start.
func TestReadAheadIsLent(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, near, far := r.sockets()
	long := bytes.Repeat([]byte("0123456789"), 1<<20)
	lent := bytes.Clone(long)
	end := &ahead{FromSocket(near), lent, make(chan struct{})}
	r.relay.Start(end, FromSocket(far), 0, func(res Result) { r.results <- res })
	clear(lent)
	r.receive(vm, string(long))
	client.Close()
	vm.Close()
	r.ends(Result{int64(len(long)), 0, message.ClientSide, "closed"})
}

// TestUrgentByte has one in the stream: a read stops before it, and must not
// be taken for one that found all there is.
func TestUrgentByte(t *testing.T) {
	r := newRig(t, FromSocket)
	x := r.start(0)
	raw, err := x.client.SyscallConn()
	r.check(err)
	raw.Control(func(fd uintptr) {
		unix.Write(int(fd), []byte("before "))
		unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil)
		unix.Write(int(fd), []byte("after"))
	})
	r.receive(x.vm, "before after")
	x.client.Close()
	x.vm.Close()
	<-r.results
}

// TestResetWhileResetWaits has the client reset while the VM's reset waits for
// bytes to arrive there: nothing is left to wait for.
func TestResetWhileResetWaits(t *testing.T) {
	r := newRig(t, FromSocket)
	x := r.start(0)
	const n = 300 << 10 // more than a client's receive buffer that nobody reads, less than with what the kernel keeps for it
	_, err := x.vm.Write(make([]byte, n))
	r.check(err)
	eventually(t, "all is written to the client's socket", func() bool {
		_, down := x.Bytes()
		return down == n
	})
	x.vm.SetLinger(0)
	x.vm.Close()
	w := x.running.(*wire)
	eventually(t, "the reset of the VM is seen", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.ends[1].broken
	})
	x.client.SetLinger(0)
	x.client.Close()
	start := time.Now()
	<-r.results
	if d := time.Since(start); d > patience*socket.Tick/2 {
		t.Errorf("the tunnel ended %v after both of its ends", d)
	}
}

// exhaust lowers the limit of descriptors to those that are open.
func exhaust(t *testing.T) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open("/dev/null") // gets the lowest number that is free
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(f.Fd()), Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() { unix.Setrlimit(unix.RLIMIT_NOFILE, &old) }
}
