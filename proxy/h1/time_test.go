package h1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"usher/proxy/message"
)

// pipe is a wire on fake time: one end of a net.Pipe with the write timeout of
// a socket.
type pipe struct {
	net.Conn
	mu      sync.Mutex
	timeout time.Duration
	gone    func()
	aborted bool
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	if p.timeout > 0 {
		p.SetWriteDeadline(time.Now().Add(p.timeout))
	} else {
		p.SetWriteDeadline(time.Time{})
	}
	p.mu.Unlock()
	return p.Conn.Write(b)
}

func (p *pipe) SetWriteTimeout(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timeout = d
}

func (p *pipe) ReadUntil(t time.Time)                  { p.SetReadDeadline(t) }
func (p *pipe) CloseWrite() error                      { return nil }
func (p *pipe) CloseLinger(int64, time.Duration) error { return p.Close() }
func (p *pipe) Idle() bool                             { return true }
func (p *pipe) Quiet() bool                            { return true }
func (p *pipe) Swift() bool                            { return false }

func (p *pipe) Abort() error {
	p.aborted = true
	return p.Close()
}

func (p *pipe) Watch(gone func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = gone
}

func (p *pipe) watched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone != nil
}

func (p *pipe) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		p.gone()
	}
}

// stage is a scene on fake time.
type stage struct {
	t      *testing.T
	client net.Conn
	ours   *pipe
	vm     net.Conn // far end of the only connection to the VM
	near   *pipe
	relay  *relay
	conn   *Conn
	served chan error
	start  time.Time
	extras sync.WaitGroup // goroutines of the test
}

// onStage runs f in a bubble with Serve running.
func onStage(t *testing.T, config *Config, silent time.Duration, f func(*stage)) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{t: t, served: make(chan error, 1), start: time.Now()}
		var ours, near net.Conn
		ours, s.client = net.Pipe()
		near, s.vm = net.Pipe()
		s.ours, s.near = &pipe{Conn: ours}, &pipe{Conn: near}
		s.relay = &relay{silent: silent, dial: func() *VM { return newVM(s.near, s.near) }}
		s.conn = newConn(config, s.ours, s.ours, &message.Client{Proto: message.HTTP1}, s.relay)
		go func() {
			s.served <- s.conn.Serve(context.Background())
			close(s.served)
		}()
		f(s)
		s.client.Close()
		s.vm.Close()
		for range s.served {
		}
		s.extras.Wait()
	})
}

func (s *stage) send(text string) {
	s.t.Helper()
	if _, err := io.WriteString(s.client, text); err != nil {
		s.t.Fatal(err)
	}
}

// ended wants the connection to end with this answer after d from the start.
func (s *stage) ended(answer string, d time.Duration) {
	s.t.Helper()
	got, err := io.ReadAll(s.client)
	if err != nil || !strings.HasPrefix(string(got), answer) || answer == "" && len(got) > 0 {
		s.t.Errorf("got %q (%v), want %q", got, err, answer)
	}
	if took := time.Since(s.start); took != d {
		s.t.Errorf("after %v, want %v", took, d)
	}
}

// readHead reads a head from a pipe.
func readHead(t testing.TB, c net.Conn) string {
	t.Helper()
	var b strings.Builder
	one := make([]byte, 1)
	for !strings.HasSuffix(b.String(), "\r\n\r\n") {
		if _, err := c.Read(one); err != nil {
			t.Fatalf("%q: %v", b.String(), err)
		}
		b.Write(one)
	}
	return b.String()
}

func TestNoRequestAtAll(t *testing.T) {
	onStage(t, &defaults, 0, func(s *stage) { s.ended("", 15*time.Second) })
}

func TestSlowHead(t *testing.T) {
	onStage(t, &defaults, 0, func(s *stage) {
		time.Sleep(10 * time.Second)
		s.send("GET /")
		s.extras.Go(func() {
			for range 14 {
				time.Sleep(time.Second)
				io.WriteString(s.client, "a")
			}
		})
		s.ended("HTTP/1.1 408 ", 25*time.Second)
		if <-s.served; len(s.relay.malformed) != 1 || s.relay.malformed[0].Status != 408 {
			t.Errorf("Malformed got %v", s.relay.malformed)
		}
	})
}

func TestKeepAliveEnds(t *testing.T) {
	onStage(t, &defaults, 0, func(s *stage) {
		s.conn.handler = handlerFunc(func(ex *message.Exchange) { answer(ex, "ok") })
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.client)
		io.ReadFull(s.client, make([]byte, 2))
		s.ended("", 75*time.Second)
		if err := <-s.served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

func TestDrainGivesGrace(t *testing.T) {
	config := defaults
	config.DrainGrace = 3 * time.Second
	onStage(t, &config, 0, func(s *stage) {
		s.conn.handler = handlerFunc(func(ex *message.Exchange) { answer(ex, "ok") })
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.client)
		io.ReadFull(s.client, make([]byte, 2))
		s.conn.Drain()
		time.Sleep(2 * time.Second)
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if head := readHead(t, s.client); !strings.Contains(head, "Connection: close") {
			t.Errorf("got %q", head)
		}
		s.ended("ok", 2*time.Second)
	})
	onStage(t, &config, 0, func(s *stage) {
		s.conn.Drain()
		s.conn.Drain()
		s.ended("", 3*time.Second)
	})
}

const uploading = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"

func TestUploadThatStalls(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.extras.Go(func() { io.Copy(io.Discard, s.vm) })
		s.send(uploading + "x")
		s.ended("HTTP/1.1 408 ", time.Minute)
	})
}

func TestUploadThatDrips(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.extras.Go(func() { io.Copy(io.Discard, s.vm) })
		s.send(uploading)
		s.extras.Go(func() {
			for {
				time.Sleep(time.Second)
				if _, err := io.WriteString(s.client, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		})
		s.ended("HTTP/1.1 408 ", 30*time.Second)
	})
}

func TestUploadThatIsSlowButFastEnough(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 204800\r\n\r\n")
		s.extras.Go(func() {
			for range 100 {
				time.Sleep(2 * time.Second)
				io.WriteString(s.client, strings.Repeat("x", 2048))
			}
		})
		readHead(t, s.vm)
		if n, err := io.ReadFull(s.vm, make([]byte, 204800)); err != nil {
			t.Fatalf("the VM got %d bytes: %v", n, err)
		}
		s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 204 No Content\r\n\r\n") })
		if head := readHead(t, s.client); !strings.HasPrefix(head, "HTTP/1.1 204 ") {
			t.Errorf("got %q", head)
		}
	})
}

func TestTimeOfTheVMDoesNotCountAgainstTheClient(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.extras.Go(func() {
			io.WriteString(s.client, uploading)
			for range 10 {
				io.WriteString(s.client, strings.Repeat("x", 100_000))
			}
		})
		readHead(t, s.vm)
		buf := make([]byte, 100)
		for range 10_000 { // 100 bytes per second
			time.Sleep(time.Second)
			if _, err := io.ReadFull(s.vm, buf); err != nil {
				t.Fatalf("after %v: %v", time.Since(s.start), err)
			}
		}
		s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 204 No Content\r\n\r\n") })
		readHead(t, s.client)
	})
}

func TestNoLimitAfterTheResponseHead(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.extras.Go(func() { io.WriteString(s.client, uploading+"x") })
		readHead(t, s.vm)
		io.ReadFull(s.vm, make([]byte, 1))
		time.Sleep(30 * time.Second)
		s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n") })
		readHead(t, s.client)
		io.ReadFull(s.client, make([]byte, len("1\r\na\r\n")))
		time.Sleep(time.Hour)
		s.extras.Go(func() { io.WriteString(s.client, "y") })
		if _, err := io.ReadFull(s.vm, make([]byte, 1)); err != nil {
			t.Errorf("the upload ended: %v", err)
		}
		time.Sleep(time.Hour)
		s.extras.Go(func() { io.WriteString(s.vm, "1\r\nb\r\n0\r\n\r\n") })
		if _, err := io.ReadFull(s.client, make([]byte, len("1\r\nb\r\n0\r\n\r\n"))); err != nil {
			t.Errorf("the response ended: %v", err)
		}
	})
}

func TestWaitingForContinueDoesNotCount(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
		readHead(t, s.vm)
		time.Sleep(10 * time.Minute)
		s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 100 Continue\r\n\r\n") })
		readHead(t, s.client)
		s.ended("HTTP/1.1 408 ", 11*time.Minute)
	})
}

func TestSilentVM(t *testing.T) {
	for name, request := range map[string]string{
		"GET":      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST":     "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
		"continue": "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, &defaults, 5*time.Minute, func(s *stage) {
				s.extras.Go(func() { io.Copy(io.Discard, s.vm) })
				s.send(request)
				if head := readHead(t, s.client); !strings.HasPrefix(head, "HTTP/1.1 504 ") {
					t.Errorf("got %q", head)
				}
				if took := time.Since(s.start); took != 5*time.Minute {
					t.Errorf("after %v, want 5m", took)
				}
			})
		})
	}
}

func TestSilenceBeginsWithTheEndOfTheUpload(t *testing.T) {
	config := defaults
	config.Timeouts.RequestBody = 0
	onStage(t, &config, 5*time.Minute, func(s *stage) {
		s.extras.Go(func() { io.Copy(io.Discard, s.vm) })
		s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
		time.Sleep(time.Hour)
		s.send("x")
		if head := readHead(t, s.client); !strings.HasPrefix(head, "HTTP/1.1 504 ") {
			t.Errorf("got %q", head)
		}
		if took := time.Since(s.start); took != 65*time.Minute {
			t.Errorf("after %v, want 1h5m", took)
		}
	})
}

func TestVMThatStopsReading(t *testing.T) {
	onStage(t, &defaults, 5*time.Minute, func(s *stage) {
		s.extras.Go(func() { io.WriteString(s.client, uploading+strings.Repeat("x", 500_000)) })
		readHead(t, s.vm)
		if head := readHead(t, s.client); !strings.HasPrefix(head, "HTTP/1.1 504 ") {
			t.Errorf("got %q", head)
		}
		if took := time.Since(s.start); took != 5*time.Minute {
			t.Errorf("after %v, want 5m", took)
		}
	})
}

func TestSilenceAfterTheHeadIsAllowed(t *testing.T) {
	onStage(t, &defaults, time.Minute, func(s *stage) {
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.vm)
		s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n") })
		readHead(t, s.client)
		time.Sleep(10 * time.Hour)
		s.extras.Go(func() { io.WriteString(s.vm, "x") })
		if _, err := io.ReadFull(s.client, make([]byte, 1)); err != nil {
			t.Error(err)
		}
	})
}

func TestClientThatDoesNotRead(t *testing.T) {
	onStage(t, &defaults, time.Minute, func(s *stage) {
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.vm)
		s.extras.Go(func() {
			io.WriteString(s.vm, "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 100_000))
		})
		err := <-s.served
		if took := time.Since(s.start); took != time.Minute || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after %v: %v, want a timeout after 1m", took, err)
		}
		if !s.ours.aborted {
			t.Error("the connection was not reset")
		}
	})
}

func TestWatchIsArmedOnlyForThoseWhoWait(t *testing.T) {
	onStage(t, &defaults, time.Hour, func(s *stage) {
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.vm)
		s.ours.leave() // nobody watches yet
		time.Sleep(499 * time.Millisecond)
		if s.ours.watched() {
			t.Error("watched at once")
		}
		time.Sleep(2 * time.Millisecond)
		s.ours.leave()
		err := <-s.served
		var e *message.Error
		if !errors.As(err, &e) || e.Side != message.ClientSide || !errors.Is(err, message.ErrClientGone) {
			t.Errorf("Serve: %v", err)
		}
		if s.ours.watched() {
			t.Error("still watched after the exchange")
		}
	})
}

func TestContextEndsRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near := &pipe{Conn: a}
		v := newVM(near, near)
		ctx, cancel := context.WithCancel(t.Context())
		ex := &message.Exchange{Stream: &stream{x: &exchange{conn: &Conn{wire: &pipe{}}}}}
		ex.Request = message.Request{Method: []byte("GET"), Path: []byte("/"), Authority: []byte("x")}
		go io.Copy(io.Discard, b)
		time.AfterFunc(time.Second, cancel)
		err := v.RoundTrip(ctx, ex, 0)
		if !errors.Is(err, message.ErrClientGone) || v.Finish() {
			t.Errorf("RoundTrip: %v", err)
		}
		v.Close()
		b.Close()
	})
}

func TestIdleConnectionHoldsNothing(t *testing.T) {
	onStage(t, &defaults, 0, func(s *stage) {
		s.conn.handler = handlerFunc(func(ex *message.Exchange) { answer(ex, "ok") })
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.client)
		io.ReadFull(s.client, make([]byte, 2))
		synctest.Wait()
		if s.conn.x != nil {
			t.Error("an idle connection holds an exchange and its buffers")
		}
		if size := unsafe.Sizeof(*s.conn); size > 256 {
			t.Errorf("a connection takes %d bytes", size)
		}
	})
}

func TestInterimResponsesBreakTheSilence(t *testing.T) {
	onStage(t, &defaults, time.Minute, func(s *stage) {
		s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		readHead(t, s.vm)
		for range 5 {
			time.Sleep(50 * time.Second)
			s.extras.Go(func() { io.WriteString(s.vm, "HTTP/1.1 102 Processing\r\n\r\n") })
			readHead(t, s.client)
		}
		if head := readHead(t, s.client); !strings.HasPrefix(head, "HTTP/1.1 504 ") {
			t.Errorf("got %q", head)
		}
		if took := time.Since(s.start); took != 310*time.Second {
			t.Errorf("after %v, want 5m10s", took)
		}
	})
}

// chatty answers what it reads by itself, as TLS does a key update.
type chatty struct{ *pipe }

func (c chatty) Read(b []byte) (int, error) {
	if _, err := c.Write([]byte("answer")); err != nil {
		return 0, err
	}
	return c.pipe.Read(b)
}

func TestNothingIsWrittenWithoutLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, client := net.Pipe()
		rw := chatty{&pipe{Conn: ours}}
		start := time.Now()
		err := newConn(&defaults, rw, rw.pipe, &message.Client{}, &relay{}).Serve(context.Background())
		if took := time.Since(start); took != time.Minute {
			t.Errorf("after %v: %v", took, err)
		}
		client.Close()
	})
}
