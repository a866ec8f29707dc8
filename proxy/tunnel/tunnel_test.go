package tunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

func TestBytesBothWays(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		x := r.start(0)
		r.send(x.client, "ping")
		r.receive(x.vm, "ping")
		r.send(x.vm, "pong!")
		r.receive(x.client, "pong!")
		eventually(t, "counted", func() bool { up, down := x.Bytes(); return up == 4 && down == 5 })
		if n := r.relay.Open(); n != 1 {
			t.Errorf("Open = %d", n)
		}
		x.client.Close()
		r.receiveEnd(x.vm, nil)
		x.vm.Close()
		r.ends(Result{4, 5, message.ClientSide, "closed"})
		x.Abort("too late")
		if n := r.relay.Open(); n != 0 {
			t.Errorf("Open = %d at the end", n)
		}
	})
}

func TestHalfCloses(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		x := r.start(0)
		r.send(x.client, "request")
		x.client.CloseWrite()
		r.receive(x.vm, "request")
		r.receiveEnd(x.vm, nil)
		r.send(x.vm, "response")
		r.receive(x.client, "response")
		r.send(x.vm, "more")
		x.vm.CloseWrite()
		r.receive(x.client, "more")
		r.receiveEnd(x.client, nil)
		r.ends(Result{7, 12, message.ClientSide, "closed"})

		x = r.start(0)
		r.send(x.vm, "220 hello")
		x.vm.CloseWrite()
		r.receive(x.client, "220 hello")
		r.receiveEnd(x.client, nil)
		r.send(x.client, "quit")
		x.client.CloseWrite()
		r.receive(x.vm, "quit")
		r.receiveEnd(x.vm, nil)
		r.ends(Result{4, 9, message.VMSide, "closed"})
	})
}

func TestReset(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		x := r.start(0)
		r.send(x.vm, "half a resp")
		r.receive(x.client, "half a resp")
		x.vm.SetLinger(0)
		x.vm.Close()
		r.receiveEnd(x.client, syscall.ECONNRESET)
		r.ends(Result{0, 11, message.VMSide, "reset"})

		x = r.start(0)
		r.send(x.client, "half a requ")
		r.receive(x.vm, "half a requ")
		x.client.SetLinger(0)
		x.client.Close()
		r.receiveEnd(x.vm, syscall.ECONNRESET)
		r.ends(Result{11, 0, message.ClientSide, "reset"})
	})
}

// TestResetAfterHalfClose has an end fail that has sent all: nothing is read
// from it any more, and still it must be noticed.
func TestResetAfterHalfClose(t *testing.T) {
	r := newRig(t, modes["wire"])
	x := r.start(0)
	x.client.CloseWrite()
	r.receiveEnd(x.vm, nil)
	x.client.SetLinger(0)
	x.client.Close()
	r.ends(Result{0, 0, message.ClientSide, "reset"})
	eventually(t, "the VM cannot write", func() bool {
		_, err := x.vm.Write([]byte("x"))
		return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	})
}

// TestLastWords has a VM answer and close while the client still sends: the
// reset that the VM's kernel makes of it must not take the answer.
func TestLastWords(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		x := r.start(0)
		r.send(x.client, "a very long upl")
		r.receive(x.vm, "a")
		r.send(x.vm, "413 no")
		x.vm.Close() // with bytes unread: FIN and RST
		r.receive(x.client, "413 no")
		x.client.SetReadDeadline(time.Now().Add(20 * time.Second))
		io.Copy(io.Discard, x.client)
		x.client.Close()
		res := <-r.results
		if res.Side != message.VMSide || res.Down != 6 {
			t.Errorf("%+v", res)
		}
	})
}

func TestResetWaitsForTheBytesBefore(t *testing.T) {
	r := newRig(t, modes["wire"])
	x := r.start(0)
	data := bytes.Repeat([]byte("0123456789abcdef"), 256<<10)
	go x.vm.Write(data)
	eventually(t, "all buffers full", func() bool {
		_, before := x.Bytes()
		time.Sleep(50 * time.Millisecond)
		_, now := x.Bytes()
		return now > 0 && now == before
	})
	x.vm.SetLinger(0)
	x.vm.Close()
	x.client.SetReadDeadline(time.Now().Add(20 * time.Second))
	got, err := io.ReadAll(x.client)
	if err == nil {
		t.Error("a broken transfer ended cleanly")
	}
	res := <-r.results
	if int64(len(got)) != res.Down || res.Reason != "reset" || res.Side != message.VMSide {
		t.Errorf("%d bytes arrived, %+v", len(got), res)
	}
}

func TestIdle(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		const idle = 1200 * time.Millisecond
		x := r.start(idle)
		var last time.Time
		for range 4 { // a byte now and then keeps it
			r.send(x.client, "x")
			r.receive(x.vm, "x")
			last = time.Now()
			time.Sleep(idle / 2)
		}
		r.receiveEnd(x.client, syscall.ECONNRESET)
		if d := time.Since(last); d < idle || d > idle+2*time.Second {
			t.Errorf("ended after %v", d)
		}
		r.receiveEnd(x.vm, syscall.ECONNRESET)
		r.ends(Result{4, 0, message.UsherSide, "idle"})
	})
}

func TestAbort(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		x := r.start(time.Hour)
		r.send(x.client, "x")
		r.receive(x.vm, "x")
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { x.Abort("drain") })
		}
		r.receiveEnd(x.client, syscall.ECONNRESET)
		r.receiveEnd(x.vm, syscall.ECONNRESET)
		r.ends(Result{1, 0, message.UsherSide, "drain"})
		all.Wait()
	})
}

func TestReadAheadGoesFirst(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, mode)
			client, vm, near, far := r.sockets()
			near.Unread([]byte("hello, "))
			far.Unread([]byte("banner, "))
			r.send(client, "world")
			r.send(vm, "rest")
			r.relay.Start(mode(near), mode(far), 0, func(res Result) { r.results <- res })
			r.receive(vm, "hello, world")
			r.receive(client, "banner, rest")
			client.Close()
			vm.Close()
			<-r.results
		})
	}
}

// ahead is an end whose owner has read ahead of the socket, as HTTP/1.1 does.
type ahead struct {
	message.Duplex
	bytes  []byte
	closed chan struct{}
}

func (a *ahead) Socket() (*socket.Socket, []byte) {
	s, _ := a.Duplex.Socket()
	return s, a.bytes
}

func (a *ahead) Close() error {
	close(a.closed)
	return a.Duplex.Close()
}

func TestOwnersOfSockets(t *testing.T) {
	r := newRig(t, FromSocket)
	client, vm, near, far := r.sockets()
	near.Unread([]byte("second "))
	a := &ahead{FromSocket(near), []byte("first "), make(chan struct{})}
	b := &ahead{FromSocket(far), []byte("third "), make(chan struct{})}
	r.relay.Start(a, b, 0, func(res Result) {
		<-a.closed
		<-b.closed
		r.results <- res
	})
	r.receive(vm, "first second ")
	r.receive(client, "third ")
	client.Close()
	vm.Close()
	r.ends(Result{13, 6, message.ClientSide, "closed"})
}

func TestEndsClosedBeforeStart(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		client, vm, near, far := r.sockets()
		far.Close()
		r.relay.Start(r.mode(near), r.mode(far), 0, func(res Result) { r.results <- res })
		r.receiveEnd(client, syscall.ECONNRESET)
		if res := <-r.results; res.Side != message.VMSide {
			t.Errorf("%+v", res)
		}
		vm.Close()
	})
}

func TestUnixVM(t *testing.T) {
	eachMode(t, func(t *testing.T, r *rig) {
		l, err := net.Listen("unix", t.TempDir()+"/vm")
		r.check(err)
		defer l.Close()
		client, _, near, spare := r.sockets()
		spare.Close()
		far, err := socket.Dial(t.Context(), "unix", l.Addr().String())
		r.check(err)
		vm, err := l.Accept()
		r.check(err)
		r.relay.Start(r.mode(near), r.mode(far), 0, func(res Result) { r.results <- res })
		long := string(bytes.Repeat([]byte("long "), 400<<10))
		go func() {
			client.Write([]byte(long))
			client.CloseWrite()
		}()
		r.receive(vm, long)
		r.receiveEnd(vm, nil)
		go func() {
			vm.Write([]byte(long))
			vm.Close()
		}()
		r.receive(client, long)
		r.receiveEnd(client, nil)
		r.ends(Result{int64(len(long)), int64(len(long)), message.ClientSide, "closed"})
	})
}
