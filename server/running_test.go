package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/server/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// edge is a server that runs in the test's process.
type edge struct {
	*Server
	t       testing.TB
	dir     string
	signals chan os.Signal
	ended   chan error
}

// newEdge starts a server on addresses of its own. The sites are the lines
// below [sites].
func newEdge(t testing.TB, sites string) *edge {
	t.Helper()
	e := &edge{t: t, dir: t.TempDir(), signals: make(chan os.Signal, 4), ended: make(chan error, 1)}
	if err := os.Mkdir(e.path("sites.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	e.write(`http = ["127.0.0.1:0"]`, sites)
	s, err := start(t.Context(), Options{File: e.path("config.toml"), Version: "test", Stdout: io.Discard, Stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	e.Server = s
	go func() { e.ended <- s.run(context.Background(), e.signals) }()
	t.Cleanup(e.stop)
	e.until("it serves", func() bool { return s.world.Load() != nil && len(s.listeners.listening()) > 1 })
	return e
}

func (e *edge) path(name string) string { return filepath.Join(e.dir, name) }

// write replaces the configuration file.
func (e *edge) write(http, sites string) {
	e.t.Helper()
	text := fmt.Sprintf(`state_dir = "state"
include = ["sites.d/*.toml"]
[listen]
%s
https = ["127.0.0.1:0"]
[admin]
listen = "unix:%s"
[log]
access = "access.log"
level = "disabled"
[acme]
directory = "https://127.0.0.1:1/directory"
[sites]
%s
`, http, e.path("admin.sock"), sites)
	if err := os.WriteFile(e.path("new"), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(e.path("new"), e.path("config.toml")); err != nil {
		e.t.Fatal(err)
	}
}

// reload fails the test if the configuration is refused.
func (e *edge) reload() Result {
	e.t.Helper()
	r := e.Reload(e.work, false)
	if r.Refused != "" {
		e.t.Fatal(r.Refused)
	}
	return r
}

// until looks again and again, for things that tell nobody.
func (e *edge) until(what string, ok func() bool) {
	e.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			e.t.Fatalf("not in time: %s", what)
		}
	}
}

func (e *edge) stop() {
	for {
		select {
		case e.signals <- syscall.SIGTERM:
		default:
		}
		select {
		case err := <-e.ended:
			if err != nil {
				e.t.Error(err)
			}
			e.ended <- nil
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// address is the listener of one kind, the last in order.
func (e *edge) address(kind string) string {
	e.t.Helper()
	found := ""
	for _, l := range e.listeners.listening() {
		if l.Kind == kind {
			found = l.Address
		}
	}
	return found
}

// visit sends a request for a host to an address.
func (e *edge) visit(address, host, path string) (net.Conn, *bufio.Reader) {
	e.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", path, host)
	return c, bufio.NewReader(c)
}

// get is the response to a request of port 80.
func (e *edge) get(host, path string) *http.Response {
	e.t.Helper()
	c, r := e.visit(e.address("http"), host, path)
	defer c.Close()
	answer, err := http.ReadResponse(r, nil)
	if err != nil {
		e.t.Fatal(err)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	answer.Body = io.NopCloser(strings.NewReader(string(body)))
	return answer
}

// slowVM announces each request and answers it once it may.
type slowVM struct {
	*httptest.Server
	asked  chan struct{}
	answer chan struct{}
	left   chan struct{} // usher gave a request up
}

func newSlowVM(t *testing.T) *slowVM {
	vm := &slowVM{asked: make(chan struct{}, 8), answer: make(chan struct{}), left: make(chan struct{}, 8)}
	vm.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			io.WriteString(w, "begin")
			w.(http.Flusher).Flush()
		}
		vm.asked <- struct{}{}
		select {
		case <-vm.answer:
			io.WriteString(w, "done")
		case <-r.Context().Done():
			vm.left <- struct{}{}
		}
	}))
	t.Cleanup(vm.Close)
	return vm
}

func (vm *slowVM) forward(host string) string {
	return fmt.Sprintf("%q = { to = %q, http = \"forward\" }\n", host, vm.Listener.Addr())
}

// TestDrainWaitsForRequestsOfEveryListener has the listener opened by a reload
// that the watcher began, whose context ends before the drain.
func TestDrainWaitsForRequestsOfEveryListener(t *testing.T) {
	vm := newSlowVM(t)
	e := newEdge(t, vm.forward("a.test"))
	e.write(`http = ["127.0.0.1:0", "127.0.0.2:0"]`, vm.forward("a.test"))
	second := ""
	e.until("the second listener", func() bool {
		second = e.address("http")
		return strings.HasPrefix(second, "127.0.0.2:")
	})
	_, r := e.visit(second, "a.test", "/")
	<-vm.asked
	e.signals <- syscall.SIGTERM
	select {
	case <-vm.left:
		t.Fatal("the request was cancelled")
	case <-time.After(1200 * time.Millisecond): // a client is watched from half a second on
	}
	close(vm.answer)
	if answer, err := http.ReadResponse(r, nil); err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v, %v", answer, err)
	}
}

func TestReloadIsRefusedWhileItStops(t *testing.T) {
	vm := newSlowVM(t)
	e := newEdge(t, vm.forward("a.test"))
	e.visit(e.address("http"), "a.test", "/")
	<-vm.asked
	e.signals <- syscall.SIGTERM
	e.until("it accepts no more", func() bool { return len(e.listeners.listening()) == 0 })
	if r := e.Reload(e.work, true); r.Refused == "" {
		t.Error("a reload while it stops went through")
	}
	if l := e.listeners.listening(); len(l) > 0 {
		t.Errorf("it listens again: %v", l)
	}
	close(vm.answer)
}

// TestSecondSignalCutsAndLogs has a request without an answer and one whose
// answer never ends.
func TestSecondSignalCutsAndLogs(t *testing.T) {
	vm := newSlowVM(t)
	e := newEdge(t, vm.forward("a.test"))
	for _, path := range []string{"/silent", "/endless"} {
		e.visit(e.address("http"), "a.test", path)
		<-vm.asked
	}
	e.signals <- syscall.SIGTERM
	e.until("it accepts no more", func() bool { return len(e.listeners.listening()) == 0 })
	begin := time.Now()
	e.signals <- syscall.SIGTERM
	if err := <-e.ended; err != nil {
		t.Error(err)
	}
	e.ended <- nil
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("the second signal took %v", took)
	}
	log, err := os.ReadFile(e.path("access.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/silent", "/endless"} {
		if !strings.Contains(string(log), `"path":"`+path+`"`) {
			t.Errorf("no line for %s in %s", path, log)
		}
	}
}

// TestAdminAnswersOverItsSocket asks a running server what it is.
func TestAdminAnswersOverItsSocket(t *testing.T) {
	e := newEdge(t, `"a.test" = "whoami://"`)
	c := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.path("admin.sock"))
		},
	}}
	resp, err := c.Get("http://localhost/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if st := e.Status(); st.Sites != 1 || st.Generation == 0 || st.Refused != "" {
		t.Errorf("%+v", st)
	}
	if _, err := os.Stat(e.path("state/local-ca/root.crt")); errors.Is(err, os.ErrNotExist) {
		t.Error("a site with a local certificate made no root")
	}
}

// state is what Sites says of a host.
func (e *edge) state(host string) admin.Site {
	e.t.Helper()
	for _, s := range e.Sites() {
		if s.Host == host {
			return s
		}
	}
	return admin.Site{}
}
