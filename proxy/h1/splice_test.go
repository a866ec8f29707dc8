package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// splicer is a proxy as relay, that lets bodies go through pipes.
type splicer struct {
	*relay
	spliced int64 // bytes of the response that SpliceTo moved
	done    chan outcome
	bodies  chan message.Body // of responses, as they begin
}

// outcome is what there is to say of an exchange that is over.
type outcome struct {
	sent, received int64
	piped          bool // all of the response went through pipes, but for what came with its head
}

func (r *splicer) Serve(ctx context.Context, ex *message.Exchange) {
	r.spliced = 0
	r.relay.Serve(ctx, ex)
	r.done <- outcome{ex.Trace.Sent, ex.Trace.Received, r.spliced == ex.Trace.Sent}
}

// splice is copy with pipes.
func (r *splicer) splice(ex *message.Exchange) error {
	resp := &ex.Response
	if resp.Body == nil {
		return r.copy(ex)
	}
	if err := ex.Stream.WriteHead(resp); err != nil {
		return err
	}
	r.bodies <- resp.Body
	n, err := resp.Body.(*responseBody).SpliceTo(ex.Stream)
	r.spliced, ex.Trace.Sent = n, n
	for err == nil {
		n := 0
		n, err = resp.Body.(*responseBody).TryRead(r.buf[:])
		if err == socket.ErrWait {
			ex.Stream.Flush()
			n, err = resp.Body.Read(r.buf[:])
		}
		ex.Trace.Sent += int64(n)
		if _, e := ex.Stream.Write(r.buf[:n]); e != nil {
			return e
		}
	}
	if err != io.EOF {
		ex.Stream.Flush()
		return err
	}
	return ex.Stream.CloseWrite(&resp.Trailer)
}

// spliced is a scene whose connections wait in one Loop, which has pipes.
type spliced struct {
	*scene
	loop *socket.Loop
	r    *splicer
}

func newSpliced(t *testing.T, config *Config) *spliced {
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
	s := &spliced{scene: newScene(t, config), loop: l}
	s.ours.UseLoop(l)
	s.r = &splicer{relay: s.relay, done: make(chan outcome, 16), bodies: make(chan message.Body, 16)}
	s.conn.handler, s.relay.pass = s.r, s.r.splice
	s.relay.dial = func() *VM { return s.dial("") }
	return s
}

// begin is start.
func (s *spliced) begin() *spliced {
	s.start()
	return s
}

// dial connects to a VM that has answered already.
func (s *spliced) dial(answer string) *VM {
	near, far := pair(s.t)
	near.UseLoop(s.loop)
	io.WriteString(far, answer)
	s.vms <- far
	return NewVM(near, near)
}

// withoutPipes has everything copied until the end of the test.
func (s *spliced) withoutPipes() {
	var all []*socket.Pipe
	for p := s.loop.BorrowPipe(); p != nil; p = s.loop.BorrowPipe() {
		all = append(all, p)
	}
	s.t.Cleanup(func() {
		for _, p := range all {
			s.loop.ReturnPipe(p)
		}
	})
}

// pipeEnds counts the descriptors of pipes that the process has.
func pipeEnds(t testing.TB) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range all {
		if to, _ := os.Readlink(name); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// until waits for what another goroutine or the kernel brings about.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// receive is expect for what nobody wants to see in a log.
func receive(t testing.TB, c net.Conn, want string) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("got %d bytes (%v), want %d, beginning with %.20q", n, err, len(want), want)
	}
}

// noise is n random bytes.
func noise(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(data)
	return data
}

const longBody = 3<<20 + 4711

// manner is how a peer writes or reads.
type manner struct {
	name  string
	write func(w io.Writer, data []byte)
	read  func(c *net.TCPConn, into []byte) (int, error)
}

func writeOdd(w io.Writer, data []byte) {
	for n := 1; len(data) > 0; n = n*3%70001 + 1 {
		piece := data[:min(n, len(data))]
		if _, err := w.Write(piece); err != nil {
			return
		}
		data = data[len(piece):]
	}
}

func writeAll(w io.Writer, data []byte) { w.Write(data) }

// writeStalling waits until what was written before has had time to arrive.
func writeStalling(w io.Writer, data []byte) {
	for _, at := range []int{1, 1000, 70000, 1 << 20} {
		w.Write(data[:at])
		data = data[at:]
		time.Sleep(5 * time.Millisecond)
	}
	w.Write(data)
}

func readAll(c *net.TCPConn, into []byte) (int, error) { return io.ReadFull(c, into) }

// readSlowly leaves the sender waiting.
func readSlowly(c *net.TCPConn, into []byte) (n int, err error) {
	c.SetReadBuffer(64 << 10)
	for n < len(into) && err == nil {
		var m int
		m, err = c.Read(into[n:min(len(into), n+99991)])
		if n += m; n%7 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return n, err
}

var manners = []manner{
	{"odd sizes", writeOdd, readAll},
	{"at once", writeAll, readAll},
	{"with stalls", writeStalling, readAll},
	{"slow reader", writeAll, readSlowly},
}

// bothWays runs f with pipes and without.
func bothWays(t *testing.T, f func(t *testing.T, s *spliced, pipes bool)) {
	t.Helper()
	for _, pipes := range []bool{true, false} {
		t.Run(fmt.Sprintf("pipes %v", pipes), func(t *testing.T) {
			s := newSpliced(t, &defaults)
			if !pipes {
				s.withoutPipes()
			}
			f(t, s, pipes)
		})
	}
}

func TestSplicedBodiesAreWhole(t *testing.T) {
	up, down := noise(longBody), noise(longBody+1)
	for _, m := range manners {
		t.Run(m.name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, s *spliced, pipes bool) {
				s.start()
				head := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(up)) + "\r\n\r\n"
				answer := "HTTP/1.1 200 OK\r\n" + date + "Content-Length: " + strconv.Itoa(len(down)) + "\r\n\r\n"
				for range 2 { // the connections can be used again
					go m.write(s.client, append([]byte(head), up...))
					vm := s.vm()
					s.vms <- vm // for the next request
					expect(t, vm, head)
					got := make([]byte, len(up))
					if n, err := m.read(vm, got); err != nil || !bytes.Equal(got, up) {
						t.Fatalf("the VM got %d bytes (%v), want %d", n, err, len(up))
					}
					go m.write(vm, append([]byte(answer), down...))
					expect(t, s.client, answer)
					got = make([]byte, len(down))
					if n, err := m.read(s.client, got); err != nil || !bytes.Equal(got, down) {
						t.Fatalf("the client got %d bytes (%v), want %d", n, err, len(down))
					}
					want := outcome{int64(len(down)), int64(len(up)), pipes}
					if done := <-s.r.done; done != want {
						t.Errorf("%+v, want %+v", done, want)
					}
				}
				if s.relay.dialed != 1 {
					t.Errorf("%d connections to the VM", s.relay.dialed)
				}
			})
		})
	}
}

// TestAbortedSpliceGivesPipesBack, which hold bytes that nobody took.
func TestAbortedSpliceGivesPipesBack(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n"
	const answer = "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000000\r\n\r\n"
	for name, upload := range map[string]bool{"response": false, "request": true} {
		t.Run(name, func(t *testing.T) {
			s := newSpliced(t, &defaults)
			before := pipeEnds(t)
			s.start()
			flooded := make(chan bool)
			flood := func(c net.Conn, first string) {
				defer close(flooded)
				io.WriteString(c, first)
				for piece := noise(1 << 20); ; {
					if _, err := c.Write(piece); err != nil {
						return
					}
				}
			}
			var vm *net.TCPConn
			if upload {
				go flood(s.client, head)
				vm = s.vm()
			} else {
				s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				vm = s.vm()
				go flood(vm, answer)
			}
			until(t, "a pipe in use", func() bool { return pipeEnds(t) > before })
			if upload {
				vm.Close()
			} else {
				s.client.Close()
			}
			done := <-s.r.done
			s.client.Close()
			vm.Close()
			<-flooded
			if done.sent == 100000000 || done.received == 100000000 {
				t.Error("all of it is said to have gone")
			}
			until(t, "no pipe", func() bool { return pipeEnds(t) <= before })
		})
	}
}

// beginning is an answer of which the VM has sent the beginning before it is
// asked, so that its connection never waits: it returns when the client has got
// that, and how long that took.
func beginning(t *testing.T, pipes, end bool) (s *spliced, took time.Duration) {
	t.Helper()
	answer := "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n" + string(noise(1000))
	s = newSpliced(t, &defaults)
	if !pipes {
		s.withoutPipes()
	}
	s.relay.dial = func() *VM {
		v := s.dial(answer)
		if far := <-s.vms; end {
			far.CloseWrite()
		}
		return v
	}
	s.start()
	start := time.Now()
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	receive(t, s.client, answer)
	return s, time.Since(start)
}

// TestBeginningArrivesAtOnce: the kernel would hold it back for 200 ms. A
// machine that does other work is given some tries.
func TestBeginningArrivesAtOnce(t *testing.T) {
	for _, pipes := range []bool{true, false} {
		_, took := beginning(t, pipes, false)
		for tries := 1; took > 150*time.Millisecond && tries < 5; tries++ {
			_, took = beginning(t, pipes, false)
		}
		if took > 150*time.Millisecond {
			t.Errorf("pipes %v: took %v", pipes, took)
		}
	}
}

// TestBeginningOfABrokenAnswer is not lost with what the kernel holds back.
func TestBeginningOfABrokenAnswer(t *testing.T) {
	for _, pipes := range []bool{true, false} {
		s, _ := beginning(t, pipes, true)
		if rest, err := io.ReadAll(s.client); len(rest) > 0 || err == nil {
			t.Errorf("pipes %v: got %q, %v; want a broken answer", pipes, rest, err)
		}
		if <-s.r.done; len(s.relay.failures) != 1 || !vmsFault(s.relay.failures[0]) {
			t.Errorf("pipes %v: failures %v, want a 502 of the VM", pipes, s.relay.failures)
		}
	}
}

// TestSpliceThatBreaks in the middle: the client sees it, after what was good.
func TestSpliceThatBreaks(t *testing.T) {
	data := noise(longBody)
	answer := "HTTP/1.1 200 OK\r\n" + date + "Content-Length: " + strconv.Itoa(len(data)) + "\r\n\r\n"
	half := data[:len(data)/2]
	for name, c := range map[string]struct {
		breaks func(s *spliced, vm *net.TCPConn)
		want   func(error) bool
	}{
		"the VM closes": {func(_ *spliced, vm *net.TCPConn) { vm.CloseWrite() }, vmsFault},
		"the VM resets": {func(_ *spliced, vm *net.TCPConn) { vm.SetLinger(0); vm.Close() }, vmsFault},
		"the client leaves": {func(s *spliced, _ *net.TCPConn) { s.client.Close() },
			func(err error) bool { return errors.Is(err, message.ErrClientGone) }},
		"stopped": {func(s *spliced, _ *net.TCPConn) { (<-s.r.bodies).Stop(errTest) },
			func(err error) bool { return err == errTest }},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpliced(t, &defaults).begin()
			s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			vm := s.vm()
			go writeAll(vm, append([]byte(answer), half...))
			expect(t, s.client, answer)
			got := make([]byte, len(half))
			if n, err := io.ReadFull(s.client, got); err != nil || !bytes.Equal(got, half) {
				t.Fatalf("got %d good bytes (%v), want %d", n, err, len(half))
			}
			c.breaks(s, vm)
			if rest, err := io.ReadAll(s.client); len(rest) > 0 || err == nil {
				t.Errorf("got %d more bytes, %v; want a broken answer", len(rest), err)
			}
			done := <-s.r.done
			if done.sent != int64(len(half)) {
				t.Errorf("%d bytes sent, want %d", done.sent, len(half))
			}
			if len(s.relay.failures) != 1 || !c.want(s.relay.failures[0]) {
				t.Errorf("failures %v", s.relay.failures)
			}
			if s.relay.vm != nil {
				t.Error("the connection to the VM is kept")
			}
		})
	}
}

var errTest = errors.New("enough")

func vmsFault(err error) bool {
	var e *message.Error
	return errors.As(err, &e) && e.Side == message.VMSide && e.Status == 502
}

// TestSurplusOfTheVM is not sent to the client, and its connection not used
// again.
func TestSurplusOfTheVM(t *testing.T) {
	data := noise(100000)
	const answer = "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n"
	s := newSpliced(t, &defaults).begin()
	for range 2 {
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		go writeAll(s.vm(), []byte(answer+string(data)+"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"))
		receive(t, s.client, answer+string(data))
		<-s.r.done
	}
	if s.relay.dialed != 2 {
		t.Errorf("%d connections to the VM, want a second one", s.relay.dialed)
	}
}

// TestSpliceNeedsABody: what has a length but none, and an old client, which
// has one.
func TestSpliceNeedsABody(t *testing.T) {
	data := string(noise(100000))
	for name, c := range map[string]struct{ request, answer, want string }{
		"HEAD": {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n", "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n"},
		"304": {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
			"HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 100000\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n" + date + "Content-Length: 100000\r\n\r\n"},
		"HTTP/1.0": {"GET / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\n\r\n" + data,
			"HTTP/1.1 200 OK\r\n" + date + "Content-Length: 100000\r\nConnection: keep-alive\r\n\r\n" + data},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpliced(t, &defaults).begin()
			for range 2 {
				s.send(c.request)
				vm := s.vm()
				s.vms <- vm // for the next request
				readHead(t, vm)
				go writeAll(vm, []byte(c.answer))
				receive(t, s.client, c.want)
			}
		})
	}
}

// TestUploadGivenBack: bytes that were read ahead of the connection come first.
func TestUploadGivenBack(t *testing.T) {
	data := noise(longBody)
	request := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + strconv.Itoa(len(data)) + "\r\n\r\n" + string(data)
	s := newSpliced(t, &defaults)
	s.ours.Unread([]byte(request[:200000]))
	s.start()
	go writeAll(s.client, []byte(request[200000:]))
	req, err := http.ReadRequest(bufio.NewReader(s.vm()))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(req.Body); err != nil || !bytes.Equal(got, data) {
		t.Fatalf("the VM got %d bytes (%v), want %d", len(got), err, len(data))
	}
}

// TestSlowUploadThroughPipes: the limits of a body hold, also on a connection
// that never waited before.
func TestSlowUploadThroughPipes(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
	impatient := defaults
	impatient.Timeouts.RequestBody = 50 * time.Millisecond
	for name, c := range map[string]struct {
		config *Config
		send   func(s *spliced)
	}{
		"silence": {&impatient, func(s *spliced) {}},
		"silence in the middle": {&impatient, func(s *spliced) {
			expect(t, s.vm(), head)
			s.client.Write(noise(1000))
		}},
		"too slow": {&defaults, func(s *spliced) {
			expect(t, s.vm(), head)
			s.client.Write(noise(1000))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSpliced(t, c.config)
			s.relay.setup = func(*message.Exchange) {
				if c.config == &defaults {
					s.conn.x.patience.waited = patienceSpan
				}
			}
			s.send(head)
			s.start()
			c.send(s)
			s.client.SetReadDeadline(time.Now().Add(10 * time.Second))
			if got := readHead(t, s.client); !strings.HasPrefix(got, "HTTP/1.1 408 ") {
				t.Errorf("got %q, want a 408", got)
			}
		})
	}
}

// TestCutUpload: the VM sees that the body has no end, and the pipe that
// carried the beginning is not lost.
func TestCutUpload(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
	s := newSpliced(t, &defaults).begin()
	data := noise(500000)
	go func() {
		writeAll(s.client, append([]byte(head), data...))
		s.client.CloseWrite()
	}()
	vm := s.vm()
	expect(t, vm, head)
	got, _ := io.ReadAll(vm)
	if !bytes.Equal(got, data) {
		t.Errorf("the VM got %d bytes, want %d", len(got), len(data))
	}
	if done := <-s.r.done; done.received != int64(len(data)) {
		t.Errorf("%d bytes received, want %d", done.received, len(data))
	}
	if len(s.relay.failures) != 1 || !errors.Is(s.relay.failures[0], message.ErrClientGone) {
		t.Errorf("failures %v, want that the client has gone", s.relay.failures)
	}
}
