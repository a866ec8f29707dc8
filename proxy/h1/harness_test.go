package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// pair is a TCP connection over loopback: our end and the peer's.
func pair(t testing.TB) (ours *socket.Socket, peer *net.TCPConn) {
	t.Helper()
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	peer = c.(*net.TCPConn)
	t.Cleanup(func() { peer.Close(); ours.Close() })
	return ours, peer
}

// relay is a small proxy: every exchange goes to one VM connection at a time,
// which is used again while it can be.
type relay struct {
	dial   func() *VM
	silent time.Duration
	setup  func(*message.Exchange)       // before RoundTrip
	pass   func(*message.Exchange) error // instead of copy

	vm        *VM
	mu        sync.Mutex
	seen      int
	dialed    int
	reused    bool // after the last Finish
	malformed []*message.Error
	failures  []error
	buf       [32 << 10]byte
}

func (r *relay) Malformed(_ *message.Exchange, err *message.Error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.malformed = append(r.malformed, err)
}

func (r *relay) Serve(ctx context.Context, ex *message.Exchange) {
	r.seen++
	if r.setup != nil {
		r.setup(ex)
	}
	if r.vm != nil && !r.vm.Idle() {
		r.vm.Close()
		r.vm = nil
	}
	if r.vm == nil {
		r.vm = r.dial()
		r.dialed++
	}
	err := r.vm.RoundTrip(ctx, ex, r.silent)
	switch {
	case err != nil:
		r.fail(ex, err)
	case ex.Response.Status == 101:
		r.upgrade(ex)
		return
	case r.pass != nil:
		err = r.pass(ex)
	default:
		err = r.copy(ex)
	}
	if err != nil {
		r.mu.Lock()
		r.failures = append(r.failures, err)
		r.mu.Unlock()
		ex.Stream.Abort(err)
	}
	if r.reused = r.vm.Finish(); !r.reused {
		r.vm.Close()
		r.vm = nil
	}
}

// fail answers for a VM that did not.
func (r *relay) fail(ex *message.Exchange, err error) {
	var e *message.Error
	if !errors.As(err, &e) || e.Status == 0 {
		return
	}
	ex.Response.Header.Reset()
	ex.Stream.WriteHead(&message.Response{Status: e.Status})
	ex.Stream.CloseWrite(nil)
}

func (r *relay) copy(ex *message.Exchange) error {
	resp := &ex.Response
	if err := ex.Stream.WriteHead(resp); err != nil {
		return err
	}
	if b, ok := resp.Body.(*responseBody); ok && r.seen%2 == 0 {
		if body := b.Whole(); body != nil {
			if _, err := ex.Stream.Write(body); err != nil {
				return err
			}
			resp.Body = nil
		}
	}
	for resp.Body != nil {
		n, err := resp.Body.(*responseBody).TryRead(r.buf[:])
		if err == socket.ErrWait {
			if err := ex.Stream.Flush(); err != nil {
				return err
			}
			n, err = resp.Body.Read(r.buf[:])
		}
		if _, werr := ex.Stream.Write(r.buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			ex.Stream.Flush()
			return err
		}
	}
	return ex.Stream.CloseWrite(&resp.Trailer)
}

// upgrade copies both ways until both ends have closed.
func (r *relay) upgrade(ex *message.Exchange) {
	if err := ex.Stream.WriteHead(&ex.Response); err != nil {
		r.vm.Finish()
		r.vm.Close()
		return
	}
	client, _ := ex.Stream.Upgrade()
	vm := r.vm.Duplex()
	r.vm = nil
	done := make(chan bool)
	go func() {
		io.Copy(vm, client)
		vm.CloseWrite()
		close(done)
	}()
	io.Copy(client, vm)
	client.CloseWrite()
	<-done
	client.Close()
	vm.Close()
}

// scene is a client and a scripted VM with Conn and VM between them.
type scene struct {
	t      testing.TB
	client *net.TCPConn
	vms    chan *net.TCPConn // the far end of each connection to the VM
	relay  *relay
	conn   *Conn
	served chan error
	ours   *socket.Socket
}

var defaults = Config{
	RequestHead: 15 * time.Second, KeepAlive: 75 * time.Second, DrainGrace: 50 * time.Millisecond,
	Timeouts: message.Timeouts{RequestBody: time.Minute, ResponseWrite: time.Minute},
}

func newScene(t testing.TB, config *Config) *scene {
	t.Helper()
	ours, peer := pair(t)
	s := &scene{t: t, client: peer, ours: ours, vms: make(chan *net.TCPConn, 16), served: make(chan error, 1)}
	s.relay = &relay{silent: time.Minute, dial: func() *VM {
		vm, far := pair(t)
		s.vms <- far
		return NewVM(vm, vm)
	}}
	s.conn = NewConn(config, ours, ours, &message.Client{Addr: ours.Remote(), Proto: message.HTTP1}, s.relay)
	return s
}

// start runs Serve; the test ends only when it has returned.
func (s *scene) start() *scene {
	go func() {
		err := s.conn.Serve(context.Background())
		if s.relay.vm != nil {
			s.relay.vm.Close()
		}
		s.served <- err
		close(s.served)
	}()
	s.t.Cleanup(func() {
		s.client.Close()
		for range s.served {
		}
	})
	return s
}

func (s *scene) send(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.client, text); err != nil {
		s.t.Fatalf("client write: %v", err)
	}
}

// expect reads exactly want from a peer.
func expect(t testing.TB, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(want))
	n, err := io.ReadFull(c, got)
	if string(got[:n]) != want {
		t.Fatalf("got %q (%v), want %q", got[:n], err, want)
	}
}

// expectEnd reads to the end of a connection, which has to be orderly.
func expectEnd(t testing.TB, c net.Conn) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	rest, err := io.ReadAll(c)
	if len(rest) > 0 || err != nil {
		t.Fatalf("got %q (%v), want the end", rest, err)
	}
}

func (s *scene) vm() *net.TCPConn {
	s.t.Helper()
	select {
	case c := <-s.vms:
		return c
	case <-time.After(5 * time.Second):
		s.t.Fatal("no connection to the VM")
		return nil
	}
}

func write(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

const date = "Date: Mon, 02 Jan 2006 15:04:05 GMT\r\n"
