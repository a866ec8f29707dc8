package e2e

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// bothPorts runs a test over plain HTTP and over TLS.
func bothPorts(t *testing.T, u *rig.Usher, f func(*testing.T, *peer.Client)) {
	t.Run("plain", func(t *testing.T) { f(t, u.For(t).Dial()) })
	t.Run("TLS", func(t *testing.T) { f(t, u.For(t).TLS("aaaa.test")) })
}

// TestInterim: 1xx responses are passed on as they come.
func TestInterim(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		return l.Say("HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </b.css>\r\n\r\n" + peer.OK)
	}))
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		p := c.Get("aaaa.test", "/")
		if len(p.Interim) != 2 || p.Interim[0].Status != 103 || p.Interim[0].Header.Get("Link") != "</a.css>; rel=preload" || p.Status != 200 {
			t.Errorf("%d after %+v", p.Status, p.Interim)
		}
	})
}

// TestTrailers: passed on both ways, but never names that mean something at
// the front.
func TestTrailers(t *testing.T) {
	t.Parallel()
	trailer := "X-Sum: 1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\nx_forwarded_for: 6.6.6.6\r\nAuthorization: x\r\nConnection: close\r\ngrpc-status: 0\r\n"
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n" + trailer + "\r\n")
	}))
	u := forwarding(t, vm)
	c := u.Dial()
	c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n2\r\nhi\r\n0\r\n" + trailer + "\r\n")
	p, q := c.Response("POST"), vm.Wait(1)
	for who, h := range map[string]strict.Header{"client": p.Trailer, "VM": q.Trailer} {
		if h.Get("X-Sum") != "1" || h.Get("grpc-status") != "0" {
			t.Errorf("the %s got %v", who, h)
		}
		for _, name := range []string{"Content-Length", "Transfer-Encoding", "Host", "X-Forwarded-For", "X_Forwarded_For", "Authorization", "Connection"} {
			if h.Has(name) {
				t.Errorf("the %s got %s in a trailer", who, name)
			}
		}
	}
	if c.Get("aaaa.test", "/").Status != 200 {
		t.Error("the connection was spoilt")
	}
}

// TestExpect: 100 (Continue) comes when the VM says so, or not at all.
func TestExpect(t *testing.T) {
	t.Parallel()
	allow := make(chan bool)
	vm := peer.Listen(t, func(l *peer.Link) {
		q, err := l.RequestHead()
		if err != nil {
			return
		}
		if !<-allow {
			l.Say("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, l.R)
			return
		}
		l.Say("HTTP/1.1 100 Continue\r\n\r\n")
		if q.ReadBody(l.R) == nil {
			l.Say(peer.Text(string(q.Body)))
		}
	})
	u := forwarding(t, vm)
	head := "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		n := len(vm.Requests())
		c.Send(head)
		vm.Wait(n + 1)
		c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		if b, err := c.R.Peek(1); err == nil {
			t.Errorf("%q before the VM said anything", b)
		}
		allow <- true
		if p := c.Head(); p.Status != 100 {
			t.Fatalf("%d instead of 100", p.Status)
		}
		c.Send("hello")
		if p := c.Response("POST"); string(p.Body) != "hello" {
			t.Errorf("%d %q", p.Status, p.Body)
		}
	})
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send(head)
		allow <- false
		if p := c.Response("POST"); p.Status != 413 || len(p.Interim) > 0 {
			t.Errorf("%d after %v", p.Status, p.Interim)
		}
	})
	for _, odd := range []string{"200-ok", "100-continue, x", "y 100-continue", ""} {
		c := u.Dial()
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\nExpect: " + odd + "\r\n\r\n")
		if p := c.Response("POST"); p.Status != 417 && p.Status != 400 {
			t.Errorf("Expect: %q: %d", odd, p.Status)
		}
	}
}

// TestServerSentEvents: each piece arrives before the next one is made.
func TestServerSentEvents(t *testing.T) {
	t.Parallel()
	next := make(chan bool)
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		l.Say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		for i := range 5 {
			<-next
			data := fmt.Sprintf("data: %d\n\n", i)
			l.Say(fmt.Sprintf("%x\r\n%s\r\n", len(data), data))
		}
		return l.Say("0\r\n\r\n")
	}))
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send(peer.Get("aaaa.test", "/"))
		if p := c.Head(); p.Status != 200 { // before any event
			t.Fatalf("%d", p.Status)
		}
		for i := range 5 {
			next <- true
			n, err := strict.ChunkSize(c.R)
			if err != nil {
				t.Fatal(err)
			}
			data := make([]byte, n)
			io.ReadFull(c.R, data)
			strict.ChunkEnd(c.R)
			if string(data) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("event %d is %q", i, data)
			}
		}
		c.WantExact("0\r\n\r\n")
	})
}

// TestUploadStreamed: the VM has each piece before the next one is sent.
func TestUploadStreamed(t *testing.T) {
	t.Parallel()
	got := make(chan string)
	vm := peer.Listen(t, func(l *peer.Link) {
		for {
			q, err := l.RequestHead()
			if err != nil {
				return
			}
			for {
				n := int64(1)
				if q.Header.Has("Transfer-Encoding") {
					n, err = strict.ChunkSize(l.R)
				}
				b := make([]byte, n)
				if _, err2 := io.ReadFull(l.R, b); err != nil || err2 != nil {
					return
				}
				if q.Header.Has("Transfer-Encoding") {
					strict.ChunkEnd(l.R)
				}
				got <- string(b)
				if n == 0 || string(b) == "5" {
					break
				}
			}
			l.Say(peer.OK)
		}
	})
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\n")
		for i := 1; i <= 5; i++ {
			c.Send(fmt.Sprint(i))
			if s := <-got; s != fmt.Sprint(i) {
				t.Fatalf("piece %d is %q", i, s)
			}
		}
		c.Response("POST")
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\n\r\n")
		for i := 1; i <= 4; i++ {
			c.Send(fmt.Sprintf("2;ext=%d\r\nc%d\r\n", i, i))
			if s := <-got; s != fmt.Sprintf("c%d", i) {
				t.Fatalf("chunk %d is %q", i, s)
			}
		}
		c.Send("0\r\n\r\n")
		<-got
		c.Response("POST")
	})
}

// TestEarlyAnswer: a VM that answers before the upload ends is heard at once.
func TestEarlyAnswer(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, func(l *peer.Link) {
		if _, err := l.RequestHead(); err == nil {
			l.Say("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge")
			io.Copy(io.Discard, l.R)
		}
	})
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 100000000\r\n\r\nbegin")
		if p := c.Response("POST"); p.Status != 413 || string(p.Body) != "large" {
			t.Errorf("%d %q", p.Status, p.Body)
		}
	})
}

// TestBothWaysAtOnce: request and response bodies flow together.
func TestBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, func(l *peer.Link) {
		if _, err := l.RequestHead(); err != nil {
			return
		}
		l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			n, err := strict.ChunkSize(l.R)
			b := make([]byte, n)
			if io.ReadFull(l.R, b); err != nil || n == 0 {
				break
			}
			strict.ChunkEnd(l.R)
			l.Say(fmt.Sprintf("%x\r\n%s\r\n", n, b))
		}
		l.Say("0\r\n\r\n")
	})
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send("POST / HTTP/1.1\r\nHost: aaaa.test\r\nTransfer-Encoding: chunked\r\n\r\n")
		if s := c.Head().Status; s != 200 {
			t.Fatalf("%d", s)
		}
		for range 10 {
			c.Send("4\r\nping\r\n")
			c.WantExact("4\r\nping\r\n")
		}
		c.Send("0\r\n\r\n")
		c.WantExact("0\r\n\r\n")
	})
}

// TestClientVanishes: the VM's work is cancelled within a second.
func TestClientVanishes(t *testing.T) {
	t.Parallel()
	gone := make(chan bool, 1)
	vm := peer.Listen(t, func(l *peer.Link) {
		if _, err := l.Request(); err == nil {
			io.Copy(io.Discard, l.R)
			gone <- true
		}
	})
	u := forwarding(t, vm)
	n := 0
	for _, request := range []string{peer.Get("aaaa.test", "/"), "POST / HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 5\r\n\r\nhello"} {
		bothPorts(t, u, func(t *testing.T, c *peer.Client) {
			c.Send(request)
			n++
			vm.Wait(n)
			begin := rig.Now()
			c.Close()
			select {
			case <-gone:
				if d := begin.Took(); d > time.Second {
					t.Errorf("the VM was told after %v", d)
				}
			case <-time.After(peer.Patience):
				t.Error("the VM was never told")
			}
		})
	}
}

// TestClientVanishesMidway: so it is while a body is on its way to it.
func TestClientVanishesMidway(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
		io.Copy(io.Discard, l.R) // silent until usher leaves
		return false
	}))
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		c.Send(peer.Get("aaaa.test", "/"))
		c.Head()
		vm.WaitOpen(1)
		c.Close()
		vm.WaitOpen(0)
	})
}

// TestMessagesOfAllShapes: framing on one kept connection.
func TestMessagesOfAllShapes(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		switch q.Target {
		case "/204":
			return l.Say("HTTP/1.1 204 No Content\r\n\r\n")
		case "/304":
			return l.Say("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
		case "/close":
			l.Say("HTTP/1.1 200 OK\r\n\r\nuntil the end")
			return false
		case "/1.0":
			l.Say("HTTP/1.0 200 OK\r\n\r\nold")
			return false
		case "/empty":
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		if q.Method == "HEAD" {
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
		}
		return l.Say(peer.Text(q.Method + " " + q.Target + " " + string(q.Body)))
	}))
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		for _, s := range []struct{ method, target, body, want string }{
			{"GET", "/", "", "GET / "}, {"HEAD", "/", "", ""}, {"GET", "/204", "", ""}, {"GET", "/304", "", ""},
			{"GET", "/empty", "", ""}, {"POST", "/x", "body", "POST /x body"}, {"GET", "/x", "body", "GET /x body"},
			{"DELETE", "/x", "", "DELETE /x "}, {"OPTIONS", "*", "", "OPTIONS * "}, {"BREW", "/pot", "", "BREW /pot "},
			{"GET", "/close", "", "until the end"}, {"GET", "/1.0", "", "old"}, {"GET", "/last", "", "GET /last "},
		} {
			length := ""
			if s.body != "" {
				length = fmt.Sprintf("Content-Length: %d\r\n", len(s.body))
			}
			c.Send(s.method + " " + s.target + " HTTP/1.1\r\nHost: aaaa.test\r\n" + length + "\r\n" + s.body)
			if p := c.Response(s.method); string(p.Body) != s.want {
				t.Errorf("%s %s: %d %q", s.method, s.target, p.Status, p.Body)
			} else if p.ToClose {
				t.Fatalf("%s %s ended the client's connection", s.method, s.target)
			}
		}
	})
	if f := vm.Faults(); len(f) > 0 {
		t.Errorf("the VM saw %v", f)
	}
}

// TestPipelining: answers in order, and nothing lost.
func TestPipelining(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := forwarding(t, vm)
	bothPorts(t, u, func(t *testing.T, c *peer.Client) {
		var all strings.Builder
		for i := range 20 {
			all.WriteString(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: aaaa.test\r\nContent-Length: 2\r\n\r\nhi", i))
		}
		c.Send(all.String())
		for i := range 20 {
			if p := c.Response("POST"); !strings.HasPrefix(string(p.Body), fmt.Sprintf("POST /%d\n", i)) {
				t.Fatalf("answer %d is %q", i, p.Body)
			}
		}
	})
}

// TestOldClient: HTTP/1.0 gets no chunks, and an end.
func TestOldClient(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, _ *strict.Request) bool {
		return l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	}))
	u := forwarding(t, vm)
	c := u.Dial()
	c.Send("GET / HTTP/1.0\r\nHost: aaaa.test\r\n\r\n")
	p := c.Response("GET")
	if string(p.Body) != "ok" || p.Header.Has("Transfer-Encoding") || !p.ToClose {
		t.Errorf("%+v", p)
	}
}

// TestAbsoluteForm: the authority is the host; one that differs from Host is
// refused.
func TestAbsoluteForm(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Echo)
	u := forwarding(t, vm)
	c := u.Dial()
	c.Send("GET http://aaaa.test/x?y HTTP/1.1\r\nHost: aaaa.test\r\n\r\n")
	if p := c.Response("GET"); !strings.HasPrefix(string(p.Body), "GET /x?y\n") {
		t.Errorf("%d %q", p.Status, p.Body)
	}
	c.Send("GET http://aaaa.test/ HTTP/1.1\r\nHost: bbbb.test\r\n\r\n")
	if p := c.Response("GET"); p.Status != 400 {
		t.Errorf("mismatch: %d", p.Status)
	}
}

// TestUnixVM: a VM may be a socket.
func TestUnixVM(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/vm"
	vm := peer.ListenUnix(t, path, peer.Echo)
	u := start(t, `[sites."aaaa.test"]
to = "unix:%s"
http = "forward"`, path)
	for range 3 {
		wantEcho(t, "unix", string(u.Dial().Get("aaaa.test", "/").Body), "Host", "aaaa.test")
	}
	if vm.Accepted() == 0 {
		t.Error("nobody came")
	}
}
