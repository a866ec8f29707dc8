package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// TestProtoVMErrors: a VM that is down or silent is a 502 or a 504, as a page
// or as JSON.
func TestProtoVMErrors(t *testing.T) {
	t.Parallel()
	down, silent := peer.Listen(t, peer.Silent), peer.Listen(t, peer.Silent)
	down.Down()
	u := start(t, `[timeouts]
hold = "100ms"
response_head = "500ms"
[sites]
"down.test" = "http://%[1]s"
"down2.test" = "h2c://%[1]s"
"mute.test" = "http://%[2]s"
"mute2.test" = "h2c://%[2]s"`, down.Addr, silent.Addr)
	each(t, u, func(t *testing.T, e edge) {
		for host, want := range map[string]int{"down.test": 502, "down2.test": 502, "mute.test": 504, "mute2.test": 504} {
			c := e.raw(host)
			page := e.ask(c, protopeer.Request{Authority: host, Fields: protopeer.Fields{{Name: "accept", Value: "text/html"}}}, "")
			if page.Status != want || !strings.Contains(string(page.Body), "<html") {
				t.Errorf("%s: %d %.60q", host, page.Status, page.Body)
			}
			// Each protocol's connection serves on after a VM's fault.
			machine := e.ask(e.raw(host), protopeer.Request{Authority: host, Fields: protopeer.Fields{{Name: "accept", Value: "application/json"}}}, "")
			var said map[string]any
			if err := json.Unmarshal(machine.Body, &said); err != nil || machine.Status != want {
				t.Errorf("%s: %d %.60q, %v", host, machine.Status, machine.Body, err)
			}
		}
	})
}

// breaking is a VM that ends a response in the middle of its body.
func breaking(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/length" {
		w.Header().Set("Content-Length", "100000")
	}
	io.WriteString(w, "the beginning")
	http.NewResponseController(w).Flush()
	panic(http.ErrAbortHandler)
}

// TestProtoVMBreaks: a body that a VM breaks off is visibly broken in every
// protocol, never a short 200.
func TestProtoVMBreaks(t *testing.T) {
	t.Parallel()
	u, hosts := everyVM(t, breaking)
	reset := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
		l.Conn.(*net.TCPConn).SetLinger(0)
		return false
	}))
	v := terminated(t, reset)
	each(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			for _, path := range []string{"/length", "/chunked"} {
				c := e.raw(host)
				a, err := protopeer.Ask(c, protopeer.Request{Authority: host, Path: path}, "")
				wantBroken(t, e, host+path, a, err)
				if e.Proto == protopeer.H1 {
					continue
				}
				if err := stillServes(c, host); err != nil {
					t.Errorf("%s%s: the connection does not serve on: %v", host, path, err)
				}
			}
		}
	})
	each(t, v, func(t *testing.T, e edge) {
		a, err := protopeer.Ask(e.raw("aaaa.test"), protopeer.Request{Authority: "aaaa.test"}, "")
		wantBroken(t, e, "a TCP reset", a, err)
	})
}

// stillServes asks for a host that does not exist.
func stillServes(c protopeer.Conn, host string) error {
	a, err := protopeer.Ask(c, protopeer.Request{Authority: "none." + host}, "")
	if err == nil && a.Status != 404 {
		err = fmt.Errorf("%d", a.Status)
	}
	return err
}

// wantBroken wants an error that is the stream's own, where it has one, or a
// 502 if the fault came before the head was sent on.
func wantBroken(t *testing.T, e edge, what string, a protopeer.Answer, err error) {
	t.Helper()
	if err == nil && a.Status == 502 {
		return
	}
	var reset protopeer.Reset
	if err == nil || e.Proto != protopeer.H1 && !errors.As(err, &reset) {
		t.Errorf("%s: %d, %d bytes, %v", what, a.Status, len(a.Body), err)
	}
	if errors.As(err, &reset) && (reset.Code == 0 || reset.Code == 0x100) {
		t.Errorf("%s: reset without an error: %d", what, reset.Code)
	}
}

// TestProtoClientCancels: the VM's work is cancelled within a second, whether
// it has begun to answer or not, and in the middle of an upload.
func TestProtoClientCancels(t *testing.T) {
	t.Parallel()
	began, gone := make(chan bool, 10), make(chan bool, 10)
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/answered" {
			io.WriteString(w, "some")
			http.NewResponseController(w).Flush()
		}
		began <- true
		if r.Method == "POST" {
			io.Copy(io.Discard, r.Body)
		}
		<-r.Context().Done()
		gone <- true
	})
	each(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			for _, q := range []protopeer.Request{{Path: "/silent"}, {Path: "/answered"}, {Path: "/silent", Method: "POST"}} {
				c := e.raw(host)
				q.Authority = host
				s := e.open(c, q, q.Method == "")
				if q.Method == "POST" {
					e.send(s, "some")
				}
				<-began
				if q.Path == "/answered" {
					e.head(s)
					e.want(s, "some")
				}
				begin := rig.Now()
				s.Cancel()
				select {
				case <-gone:
					if d := begin.Took(); d > time.Second {
						t.Errorf("%s %+v: the VM was told after %v", host, q, d)
					}
				case <-time.After(peer.Patience):
					t.Errorf("%s %+v: the VM was never told", host, q)
				}
				if e.Proto != protopeer.H1 {
					if err := stillServes(c, host); err != nil {
						t.Errorf("%s: the connection does not serve on: %v", host, err)
					}
				}
				c.Close()
			}
		}
	})
}

// TestProtoConnectionVanishes: so it is when the connection goes, with all its
// streams.
func TestProtoConnectionVanishes(t *testing.T) {
	t.Parallel()
	began, gone := make(chan bool, 100), make(chan bool, 100)
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		began <- true
		<-r.Context().Done()
		gone <- true
	})
	each(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			c, n := e.raw(host), 20
			if e.Proto == protopeer.H1 {
				n = 1
			}
			for range n {
				e.open(c, protopeer.Request{Authority: host}, true)
			}
			for range n {
				<-began
			}
			c.Close()
			for range n {
				soon(t, gone)
			}
		}
	})
}

// TestProtoSlowReader: a client that does not read one response, and a VM that
// does not read one upload, stall nobody else on the same connection.
func TestProtoSlowReader(t *testing.T) {
	t.Parallel()
	block := make(chan bool)
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down":
			io.CopyN(w, zeros{}, 64<<20)
		case "/up":
			<-block
		default:
			io.CopyN(w, zeros{}, 100<<10)
		}
	})
	t.Cleanup(func() { close(block) })
	multiplexed(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			c := e.raw(host)
			stalled := e.open(c, protopeer.Request{Authority: host, Path: "/down"}, true)
			e.head(stalled)
			up := e.open(c, protopeer.Request{Method: "POST", Authority: host, Path: "/up"}, false)
			full := make(chan bool)
			go func() {
				io.CopyN(up, zeros{}, 64<<20) // until it is cancelled
				close(full)
			}()
			ok := make(chan error, 98)
			for range 98 {
				go func() {
					a, err := protopeer.Ask(c, protopeer.Request{Authority: host}, "")
					if err == nil && len(a.Body) != 100<<10 {
						err = fmt.Errorf("%d with %d bytes", a.Status, len(a.Body))
					}
					ok <- err
				}()
			}
			for range 98 {
				if err := <-ok; err != nil {
					t.Errorf("%s, beside two that stall: %v", host, err)
				}
			}
			stalled.Cancel()
			up.Cancel()
			c.Close()
			<-full
		}
	})
}

// TestProtoReload: connections stay; their next requests see the new file, a
// response under way goes on.
func TestProtoReload(t *testing.T) {
	t.Parallel()
	next := make(chan string)
	one := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		if q.Target != "/long" {
			return l.Say(peer.Text("one"))
		}
		l.Say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for s := range next {
			if l.Say(fmt.Sprintf("%x\r\n%s\r\n", len(s), s)); s == "end" {
				return l.Say("0\r\n\r\n")
			}
		}
		return false
	}))
	two := peer.Listen(t, peer.Name("two"))
	body := func(vm *peer.VM) string {
		return fmt.Sprintf("[sites]\n\"aaaa.test\" = [\"http://%s\"]\n\"bbbb.test\" = \"http://%s\"", vm.Addr, one.Addr)
	}
	u := builds.Start(t, rig.Config{Body: body(one)})
	each(t, u, func(t *testing.T, e edge) {
		u.Reload(body(one))
		c := e.raw("aaaa.test")
		long, side := c, c
		if e.Proto == protopeer.H1 {
			long = e.raw("aaaa.test")
		}
		s := e.open(long, protopeer.Request{Authority: "aaaa.test", Path: "/long"}, true)
		next <- "begin"
		e.head(s)
		e.want(s, "begin")
		if a := e.ask(side, protopeer.Request{Authority: "aaaa.test"}, ""); string(a.Body) != "one" {
			t.Errorf("%q", a.Body)
		}
		u.Reload(body(two))
		if a := e.ask(side, protopeer.Request{Authority: "aaaa.test"}, ""); string(a.Body) != "two" {
			t.Errorf("after the reload: %q", a.Body)
		}
		next <- "end"
		e.want(s, "end")
		if rest, err := io.ReadAll(s); err != nil || len(rest) > 0 {
			t.Errorf("the response under way: %q, %v", rest, err)
		}
	})
}

// TestProtoDrain: SIGTERM loses nothing: what was under way is answered, what
// comes too late is told so, and the process ends with the last stream.
func TestProtoDrain(t *testing.T) {
	t.Parallel()
	for _, p := range protopeer.All() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			began, release := make(chan bool, 100), make(chan bool)
			addr := serveHTTP(t, nil, func(w http.ResponseWriter, r *http.Request) {
				began <- true
				<-release
				io.CopyN(w, zeros{}, 100_000)
			})
			u := start(t, `[sites]
"http1.test" = "http://%[1]s"
"h2c.test" = "h2c://%[1]s"`, addr)
			e := edge{u, p, t}
			done, n := make(chan error, 100), 0
			for _, host := range []string{"http1.test", "h2c.test"} {
				c := e.raw(host)
				for range 20 {
					if p == protopeer.H1 {
						c = e.raw(host)
					}
					n++
					s := e.open(c, protopeer.Request{Authority: host}, true)
					go func() { done <- whole(s) }()
				}
			}
			for range n {
				<-began
			}
			u.Signal(15)
			u.Log.Contains(t, "draining")
			close(release)
			for range n {
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			if code := u.Exit(10 * time.Second); code != 0 {
				t.Errorf("ended with %d", code)
			}
		})
	}
}

// whole reads a response of 100,000 bytes.
func whole(s protopeer.Stream) error {
	a, err := protopeer.Finish(s)
	if err == nil && (a.Status != 200 || len(a.Body) != 100_000) {
		err = fmt.Errorf("%d with %d bytes", a.Status, len(a.Body))
	}
	return err
}

// TestProtoDrainUnderLoad: a listener that a reload closes, and then the whole
// process, drain under the requests of a library that goes where it is told.
// None is lost.
func TestProtoDrainUnderLoad(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer(peer.OK))
	for _, p := range protopeer.All() {
		t.Run(string(p), func(t *testing.T) {
			t.Parallel()
			u := terminated(t, vm)
			e := edge{u, p, t}
			c := e.client("aaaa.test")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 8)
			for range 8 {
				go func() { ended <- requests(ctx, c) }()
			}
			rig.Eventually(t, "some requests", func() bool { return strings.Count(u.Access.String(), "\n") > 200 })
			u.Signal(15)
			u.Log.Contains(t, "draining")
			code := u.Exit(10 * time.Second)
			cancel()
			for range 8 {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			if code != 0 {
				t.Errorf("ended with %d", code)
			}
		})
	}
}

// requests sends one after the other until ctx ends or nobody listens any
// more. Any other failure is one.
func requests(ctx context.Context, c *http.Client) error {
	for ctx.Err() == nil {
		q, _ := http.NewRequestWithContext(ctx, "GET", "https://aaaa.test/", nil)
		p, err := c.Do(q)
		if err != nil {
			return refusedDial(ctx, err)
		}
		b, err := io.ReadAll(p.Body)
		p.Body.Close()
		if err != nil || p.StatusCode != 200 || string(b) != "ok" {
			return fmt.Errorf("%d %q, %w", p.StatusCode, b, err)
		}
	}
	return nil
}

// refusedDial lets a new connection be refused: the process has gone.
func refusedDial(ctx context.Context, err error) error {
	var op *net.OpError
	var refused *quic.TransportError
	switch {
	case ctx.Err() != nil || errors.As(err, &op) && op.Op == "dial":
		return nil
	case errors.As(err, &refused) && refused.ErrorCode == quic.ConnectionRefused:
		return nil
	}
	return err
}
