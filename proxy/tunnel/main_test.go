package tunnel

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy/message"
	"usher/proxy/socket"
)

func TestMain(m *testing.M) {
	if r, w, err := os.Pipe(); err == nil { // the runtime opens its poller now, not while a test counts
		r.Close()
		w.Close()
	}
	goleak.VerifyTestMain(m)
}

// modes are the ways a tunnel can run; most tests are for all of them.
var modes = map[string]func(*socket.Socket) message.Duplex{
	"wire":   FromSocket,
	"copier": func(s *socket.Socket) message.Duplex { return hidden{FromSocket(s)} },
}

// hidden is an end that does not show its socket, as TLS does not.
type hidden struct{ message.Duplex }

func (hidden) Socket() (*socket.Socket, []byte) { return nil, nil }

func eachMode(t *testing.T, f func(t *testing.T, r *rig)) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) { f(t, newRig(t, mode)) })
	}
}

// rig makes tunnels between a client and a VM that the test plays.
type rig struct {
	t       testing.TB
	mode    func(*socket.Socket) message.Duplex
	relay   *Relay
	front   *socket.Listener
	back    *net.TCPListener
	dialTo  string
	results chan Result
}

func newRig(t testing.TB, mode func(*socket.Socket) message.Duplex) *rig {
	t.Helper()
	noLeak(t)
	front, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lc := net.ListenConfig{}
	lc.SetMultipathTCP(false)
	back, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { front.Close(); back.Close() })
	return &rig{t: t, mode: mode, relay: New(loop(t)), front: front, back: back.(*net.TCPListener),
		dialTo: back.Addr().String(), results: make(chan Result, 5000)}
}

func loop(t testing.TB) *socket.Loop {
	t.Helper()
	l, err := socket.NewLoop()
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

// tunnel is one of a rig, with the far ends.
type tunnel struct {
	*Tunnel
	client, vm *net.TCPConn
}

// sockets connects both sides but starts nothing.
func (r *rig) sockets() (client, vm *net.TCPConn, near, far *socket.Socket) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.front.Addr().String())
	r.check(err)
	near, err = r.front.Accept()
	r.check(err)
	far, err = socket.Dial(context.Background(), "tcp", r.dialTo)
	r.check(err)
	v, err := r.back.AcceptTCP()
	r.check(err)
	r.t.Cleanup(func() { c.Close(); v.Close() })
	return c.(*net.TCPConn), v, near, far
}

func (r *rig) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) start(idle time.Duration) *tunnel {
	r.t.Helper()
	c, v, near, far := r.sockets()
	return &tunnel{r.relay.Start(r.mode(near), r.mode(far), idle, func(res Result) { r.results <- res }), c, v}
}

// ends waits for the result of the tunnel and checks it.
func (r *rig) ends(want Result) {
	r.t.Helper()
	select {
	case got := <-r.results:
		if got != want {
			r.t.Errorf("result %+v, want %+v", got, want)
		}
	case <-time.After(20 * time.Second):
		r.t.Fatal("the tunnel does not end")
	}
}

func (r *rig) send(c net.Conn, s string) {
	r.t.Helper()
	_, err := c.Write([]byte(s))
	r.check(err)
}

// receive reads exactly want.
func (r *rig) receive(c net.Conn, want string) {
	r.t.Helper()
	got := make([]byte, len(want))
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	for n := 0; n < len(want); {
		m, err := c.Read(got[n:])
		if n += m; err != nil {
			r.t.Fatalf("got %q, want %q: %v", got[:n], want, err)
		}
	}
	if string(got) != want {
		r.t.Fatalf("got %q, want %q", got, want)
	}
}

// receiveEnd reads until the end, which must be want: nil for a FIN.
func (r *rig) receiveEnd(c net.Conn, want error) {
	r.t.Helper()
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	_, err := c.Read(make([]byte, 1))
	if want == nil && err != nil && err.Error() == "EOF" {
		return
	}
	if err == nil || want == nil || !strings.Contains(err.Error(), want.Error()) {
		r.t.Fatalf("end is %v, want %v", err, want)
	}
}

// descriptors counts the open descriptors of the process, and pipes among
// them.
func descriptors(t testing.TB) (all, pipes int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if to, _ := os.Readlink("/proc/self/fd/" + e.Name()); strings.HasPrefix(to, "pipe:") {
			pipes++
		}
	}
	return len(list), pipes
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(15 * time.Second); !is(); {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func noLeak(t testing.TB) {
	before, _ := descriptors(t)
	t.Cleanup(func() {
		eventually(t, "as few descriptors as before", func() bool {
			now, _ := descriptors(t)
			return now <= before
		})
	})
}
