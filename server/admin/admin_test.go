package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a Source with fixed answers.
type fake struct {
	mu     sync.Mutex
	forced []bool
}

var (
	aStatus = Status{Version: "1.0", PID: 7, Generation: 3, File: "/etc/usher/config.toml", Faulty: []Fault{{Site: "b.example", Reason: "no VM", Stale: true}}}
	aSites  = []Site{{Host: "a.example", Mode: "terminate", To: []string{"http://10.0.0.1:80"}, State: Live, Requests: 5}}
	aCerts  = Certs{Certificates: []Certificate{{Site: "a.example", Kind: "acme", State: "valid", NotAfter: time.Unix(1e9, 0).UTC()}}}
)

func (f *fake) Status() Status { return aStatus }
func (f *fake) Sites() []Site  { return aSites }
func (f *fake) VMs() []VM      { return nil }
func (f *fake) Certs() Certs   { return aCerts }

func (f *fake) Reload(_ context.Context, force bool) ReloadResult {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forced = append(f.forced, force)
	if !force {
		return ReloadResult{Generation: 3, Refused: "half the sites are gone"}
	}
	return ReloadResult{OK: true, Generation: 4, Changes: []string{"added a.example"}}
}

func (f *fake) Drain(vm string, drained bool) (Drained, error) {
	if vm != "web 1/2" {
		return Drained{}, errors.New("there is no such VM")
	}
	return Drained{VM: vm, Drained: drained, Active: 3}, nil
}

func telemetryStub() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) })
}

// serve runs the API on an address and returns the one to dial.
func serve(t *testing.T, addr string, src Source) string {
	t.Helper()
	ln, err := Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, ln, Handler(src, telemetryStub()), nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	if strings.HasPrefix(addr, "unix:") {
		return addr
	}
	return ln.Addr().String()
}

// everywhere runs a test over a unix socket and over TCP.
func everywhere(t *testing.T, run func(t *testing.T, addr string)) {
	t.Run("unix", func(t *testing.T) { run(t, "unix:"+filepath.Join(t.TempDir(), "made", "admin.sock")) })
	t.Run("IPv4", func(t *testing.T) { run(t, "127.0.0.1:0") })
	t.Run("IPv6", func(t *testing.T) { run(t, "[::1]:0") })
}

func same[T any](t *testing.T, want T) func(got T, err error) {
	return func(got T, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
}

func TestClientAndServer(t *testing.T) {
	everywhere(t, func(t *testing.T, addr string) {
		f := new(fake)
		c := Dial(serve(t, addr, f))
		defer c.Close()
		ctx := t.Context()
		same(t, aStatus)(c.Status(ctx))
		same(t, aSites)(c.Sites(ctx))
		same(t, []VM{})(c.VMs(ctx))
		same(t, aCerts)(c.Certs(ctx))
		same(t, ReloadResult{Generation: 3, Refused: "half the sites are gone"})(c.Reload(ctx, false))
		same(t, ReloadResult{OK: true, Generation: 4, Changes: []string{"added a.example"}})(c.Reload(ctx, true))
		same(t, Drained{VM: "web 1/2", Drained: true, Active: 3})(c.Drain(ctx, "web 1/2", true))
		same(t, Drained{VM: "web 1/2", Active: 3})(c.Drain(ctx, "web 1/2", false))
		if _, err := c.Drain(ctx, "web3", true); err == nil || !strings.Contains(err.Error(), "no such VM") {
			t.Error(err)
		}
		if !reflect.DeepEqual(f.forced, []bool{false, true}) {
			t.Errorf("forced %v", f.forced)
		}
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	addr := serve(t, "127.0.0.1:0", new(fake))
	for _, c := range []struct {
		method, path, host, origin string
		status                     int
	}{
		{"GET", "/v1/status", addr, "", 200},
		{"GET", "/v1/status", "localhost", "", 200},
		{"GET", "/v1/status", "LOCALHOST:1", "", 200},
		{"GET", "/v1/status", "[::1]:9180", "", 200},
		{"GET", "/v1/status", "[::1]", "", 200},
		{"GET", "/v1/status", "127.8.8.8", "", 200},
		{"GET", "/metrics", addr, "", 200},
		{"GET", "/healthz", addr, "", 200},
		{"POST", "/v1/reload?force=1", addr, "", 200},
		{"POST", "/v1/reload", addr, "", 409},
		{"POST", "/v1/reload?force=yes", addr, "", 400},
		{"GET", "/v1/status", "usher.attacker.example", "", 403},
		{"GET", "/v1/status", "localhost.attacker.example", "", 403},
		{"GET", "/v1/status", "10.0.0.1:9180", "", 403},
		{"GET", "/v1/status", "127.0.0.1.nip.io", "", 403},
		{"GET", "/metrics", "attacker.example", "", 403},
		{"POST", "/v1/reload", addr, "http://attacker.example", 403},
		{"POST", "/v1/reload", addr, "null", 403},
		{"GET", "/v1/status", addr, "http://" + addr, 403},
		{"POST", "/v1/status", addr, "", 405},
		{"DELETE", "/v1/sites", addr, "", 405},
		{"GET", "/v1/reload", addr, "", 405},
		{"GET", "/v1/vms/web1/drain", addr, "", 405},
		{"POST", "/v1/vms/web1/drain", addr, "http://attacker.example", 403},
		{"POST", "/v1/vms/web1/drain", addr, "", 404},
		{"PUT", "/v1/reload", addr, "", 405},
		{"GET", "/v1/nothing", addr, "", 404},
		{"GET", "/", addr, "", 404},
	} {
		r, err := http.NewRequest(c.method, "http://"+addr+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		w, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		w.Body.Close()
		if w.StatusCode != c.status {
			t.Errorf("%s %s, Host %q, Origin %q: %d, want %d", c.method, c.path, c.host, c.origin, w.StatusCode, c.status)
		}
	}
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()
}

func TestMissingHostIsRefusedOnTCP(t *testing.T) {
	conn, err := net.Dial("tcp", serve(t, "127.0.0.1:0", new(fake)))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /v1/status HTTP/1.0\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.0 403") {
		t.Errorf("got %.40q", answer)
	}
}

func TestListenAddresses(t *testing.T) {
	for _, addr := range []string{
		"0.0.0.0:0", "[::]:0", ":9180", "192.0.2.1:0", "example.com:0", "9180", "", "unix:", "unix:/" + strings.Repeat("x", 120),
		"unix:" + t.TempDir(), "127.0.0.1",
	} {
		if ln, err := Listen(addr); err == nil {
			ln.Close()
			t.Errorf("%q was opened", addr)
		} else if !strings.HasPrefix(err.Error(), "admin: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}

func TestSocketPermissionsAndRemoval(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	ln.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the socket is still there")
	}
}

func TestLiveSocketIsLeftAlone(t *testing.T) {
	addr := serve(t, "unix:"+filepath.Join(t.TempDir(), "admin.sock"), new(fake))
	if _, err := Listen(addr); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v", err)
	}
	c := Dial(addr)
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	c := Dial(serve(t, "unix:"+path, new(fake)))
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOtherFileIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen("unix:" + path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v", err)
	}
	if b, _ := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is now %q", b)
	}
}

func TestCloseLeavesAnothersSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	first, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	os.Remove(path)
	second, err := Listen("unix:" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	first.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error("the second listener's socket was removed by the first")
	}
}

// TestOnlyOneOfManyStarts: many processes that start together on a stale socket.
func TestOnlyOneOfManyStarts(t *testing.T) {
	addr := "unix:" + filepath.Join(t.TempDir(), "admin.sock")
	var wg sync.WaitGroup
	won := make(chan net.Listener, 20)
	for range cap(won) {
		wg.Go(func() {
			if ln, err := Listen(addr); err == nil {
				won <- ln
			}
		})
	}
	wg.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d listeners", len(won))
	}
	for ln := range won {
		ln.Close()
	}
}

func TestClientErrors(t *testing.T) {
	odd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/status":
			io.WriteString(w, "<html>hello</html>")
		case "/v1/sites":
			http.Error(w, "what?", http.StatusTeapot)
		case "/v1/vms":
			w.WriteHeader(403)
			json.NewEncoder(w).Encode(fault{"go away"})
		}
	}))
	defer odd.Close()
	c := Dial(odd.Listener.Addr().String())
	defer c.Close()
	nobody := Dial("unix:" + filepath.Join(t.TempDir(), "none.sock"))
	_, unreachable := nobody.Status(t.Context())
	_, html := c.Status(t.Context())
	_, teapot := c.Sites(t.Context())
	_, forbidden := c.VMs(t.Context())
	for want, err := range map[string]error{
		"is it running?": unreachable, "not usher": html, "418": teapot, "refused: go away": forbidden,
	} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want something with %q", err, want)
		}
	}
}
