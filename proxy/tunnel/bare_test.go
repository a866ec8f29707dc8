package tunnel

import (
	"bytes"
	"io"
	"syscall"
	"testing"
	"time"

	"usher/proxy/message"
)

// bare is a tunnel between descriptors that is not started yet.
func (r *rig) bare(idle time.Duration) (client, vm interface {
	io.ReadWriteCloser
	CloseWrite() error
}, b Bare) {
	r.t.Helper()
	c, v, near, far := r.sockets()
	fd, _, err := near.Detach()
	r.check(err)
	to, _, err := far.Detach()
	r.check(err)
	return c, v, r.relay.Bare(fd, to, idle, told(func(res Result) { r.results <- res }))
}

func TestBare(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, b := r.bare(0)
	b.Start([]byte("sent and more"), 5)
	buf := make([]byte, 8)
	if n, err := io.ReadFull(vm, buf); string(buf) != "and more" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	vm.Write([]byte("answer"))
	vm.CloseWrite()
	if got, err := io.ReadAll(client); string(got) != "answer" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	client.Write([]byte("late")) // the other half goes on
	client.CloseWrite()
	if got, err := io.ReadAll(vm); string(got) != "late" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got := <-r.results; got != (Result{17, 6, message.VMSide, "closed"}) {
		t.Errorf("%+v", got)
	}
	if n := r.relay.Open(); n != 0 {
		t.Errorf("%d open", n)
	}
	client.Close()
	vm.Close()
}

func TestBareAbortBeforeStart(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, b := r.bare(time.Hour)
	b.Abort("drain")
	b.Start([]byte("hello"), 5)
	for _, c := range []io.ReadCloser{client, vm} {
		if _, err := c.Read(make([]byte, 1)); !isReset(err) {
			t.Errorf("err = %v", err)
		}
		c.Close()
	}
	if got := <-r.results; got.Side != message.UsherSide || got.Reason != "drain" {
		t.Errorf("%+v", got)
	}
}

func isReset(err error) bool { return reasonOf(err) == reasonOf(syscall.ECONNRESET) }

// TestBareIsGuarded: keep-alive is set after a second or two.
func TestBareIsGuarded(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, b := r.bare(0)
	fd := b.wire.ends[1].fd
	guarded := func() bool {
		n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
		return n == 1 && err == nil
	}
	r.check(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 0)) // as Dialer.Begin leaves it
	b.Start([]byte("hello"), 5)
	eventually(t, "guarded", guarded)
	client.Close()
	vm.Close()
	<-r.results
}

// TestBareHoldsNothingBack: from the second write to the VM on, the kernel does
// not wait for an acknowledgement.
func TestBareHoldsNothingBack(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, b := r.bare(0)
	fd := b.wire.ends[1].fd
	noDelay := func() bool {
		n, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
		r.check(err)
		return n == 1
	}
	r.check(syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 0)) // as Dialer.Begin leaves it
	b.Start([]byte("hello"), 5)
	if noDelay() {
		t.Error("there was no second write")
	}
	client.Write([]byte("x"))
	if _, err := io.ReadFull(vm, make([]byte, 1)); err != nil || !noDelay() {
		t.Errorf("after the second write: %v, %v", noDelay(), err)
	}
	client.Close()
	vm.Close()
	<-r.results
}

// TestBareAnswerWithItsEnd: what came together with the end is passed on whole,
// and the other half goes on.
func TestBareAnswerWithItsEnd(t *testing.T) {
	for _, n := range []int{0, 1, scratchSize - 1, scratchSize, scratchSize + 1, 3 * scratchSize} {
		r := newRig(t, FromSocket)
		client, vm, b := r.bare(0)
		answer := bytes.Repeat([]byte("0123456789abcdef"), n/16+1)[:n]
		vm.Write(answer)
		vm.CloseWrite()
		b.Start([]byte("hello"), 5)
		if got, err := io.ReadAll(client); !bytes.Equal(got, answer) || err != nil {
			t.Errorf("%d of %d bytes, %v", len(got), n, err)
		}
		client.Write([]byte("late"))
		client.CloseWrite()
		if got, err := io.ReadAll(vm); string(got) != "late" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if got := <-r.results; got != (Result{9, int64(n), message.VMSide, "closed"}) {
			t.Errorf("%d: %+v", n, got)
		}
		client.Close()
		vm.Close()
	}
}

// TestBareUrgentByteWithTheEnd: a read stops before it, and not at the end.
func TestBareUrgentByteWithTheEnd(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, b := r.bare(0)
	raw, err := vm.(syscall.Conn).SyscallConn()
	r.check(err)
	raw.Control(func(fd uintptr) {
		syscall.Write(int(fd), []byte("before "))
		syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil)
		syscall.Write(int(fd), []byte("after"))
	})
	vm.CloseWrite()
	b.Start([]byte("hello"), 5)
	if got, err := io.ReadAll(client); string(got) != "before after" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	client.Close()
	vm.Close()
	<-r.results
}
