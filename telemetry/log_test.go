package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a log; the function it returns ends it and waits for its lines.
func start(t *testing.T, l *Log) (end func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	end = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { end() })
	return end
}

func open(t *testing.T, dest string, o Options) *Log {
	t.Helper()
	l, err := Open(dest, o)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func decode(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(line, &m); err != nil {
		t.Fatalf("line %q: %v", line, err)
	}
	return m
}

func sample1() *Exchange {
	return &Exchange{
		Time:      time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC),
		Client:    netip.MustParseAddr("::ffff:192.0.2.7"),
		Port:      40123,
		RequestID: []byte("01ABC"),
		Site:      "blog.example.com",
		Method:    []byte("GET"),
		Scheme:    "https",
		Host:      []byte("Blog.example.com"),
		Path:      []byte("/a/b?token=secret"),
		Proto:     "HTTP/1.1",
		Status:    200, BytesIn: 12, BytesOut: 345,
		Duration: 12345 * time.Microsecond, FirstByte: 9 * time.Millisecond,
		Backend: "http://10.0.0.11:8080", Attempts: 1,
		TLSVersion: 0x304, TLSCipher: 0x1301, SNI: "blog.example.com",
	}
}

func TestExchangeLine(t *testing.T) {
	var out bytes.Buffer
	l := open(t, "stdout", Options{Stdout: &out})
	end := start(t, l)
	l.Exchange(sample1())
	if err := end(); err != nil {
		t.Fatal(err)
	}
	want := `{"time":"2026-03-04T05:06:07.089Z","type":"exchange","client":"192.0.2.7","port":40123,"request_id":"01ABC",` +
		`"site":"blog.example.com","method":"GET","scheme":"https","host":"Blog.example.com","path":"/a/b",` +
		`"proto":"HTTP/1.1","status":200,"bytes_in":12,"bytes_out":345,"duration_ms":12.345,"ttfb_ms":9,` +
		`"backend":"http://10.0.0.11:8080","attempts":1,"tls_version":"TLSv1.3","tls_cipher":"TLS_AES_128_GCM_SHA256",` +
		`"sni":"blog.example.com"}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestQueryOnlyWhenAskedFor(t *testing.T) {
	var out bytes.Buffer
	l := open(t, "stdout", Options{Stdout: &out, Query: true})
	end := start(t, l)
	l.Exchange(sample1())
	end()
	m := decode(t, out.Bytes())
	if m["path"] != "/a/b" || m["query"] != "token=secret" {
		t.Errorf("path %v, query %v", m["path"], m["query"])
	}
}

func TestTunnelLine(t *testing.T) {
	var out bytes.Buffer
	l := open(t, "stderr", Options{Stderr: &out})
	end := start(t, l)
	l.Tunnel(&Tunnel{
		Time: time.Unix(0, 0), Client: netip.MustParseAddr("2001:db8::1"), Port: 9, Site: "*.example.com", SNI: "a.example.com",
		ALPN: "h2,http/1.1", Backend: "10.0.0.12:443", BytesIn: 1, Duration: time.Second, ClosedBy: "vm", Reason: "reset",
	})
	end()
	want := `{"time":"1970-01-01T00:00:00.000Z","type":"tunnel","client":"2001:db8::1","port":9,"site":"*.example.com",` +
		`"sni":"a.example.com","alpn":"h2,http/1.1","backend":"10.0.0.12:443","bytes_in":1,"bytes_out":0,` +
		`"duration_ms":1000,"closed_by":"vm","reason":"reset"}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestSessionLine(t *testing.T) {
	var out bytes.Buffer
	l := open(t, "stderr", Options{Stderr: &out})
	end := start(t, l)
	l.Tunnel(&Tunnel{
		Time: time.Unix(0, 0), Client: netip.MustParseAddr("192.0.2.7"), Port: 9, Site: "udp://:53", Backend: "10.0.0.12:53",
		BytesIn: 30, BytesOut: 50, Datagrams: Datagrams{In: 2, Out: 1, Dropped: 3}, ClosedBy: "usher", Reason: "idle",
	})
	end()
	want := `{"time":"1970-01-01T00:00:00.000Z","type":"tunnel","client":"192.0.2.7","port":9,"site":"udp://:53",` +
		`"backend":"10.0.0.12:53","bytes_in":30,"bytes_out":50,"datagrams_in":2,"datagrams_out":1,"datagrams_dropped":3,` +
		`"duration_ms":0,"closed_by":"usher","reason":"idle"}` + "\n"
	if out.String() != want {
		t.Errorf("got  %swant %s", out.String(), want)
	}
}

func TestRefusalsAreSampled(t *testing.T) {
	var out bytes.Buffer
	l := open(t, "stdout", Options{Stdout: &out})
	end := start(t, l)
	at := time.Unix(1000, 0)
	for range 25 {
		l.Refusal(&Refusal{Time: at, Listener: HTTPS, Cause: UnknownName, SNI: "x\n.example"})
	}
	l.Refusal(&Refusal{Time: at, Cause: Malformed, Method: []byte("G\x00T"), Status: 400})
	l.Refusal(&Refusal{Time: at.Add(time.Second), Cause: UnknownName})
	end()
	lines := bytes.Split(bytes.TrimSpace(out.Bytes()), []byte("\n"))
	if len(lines) != 12 {
		t.Fatalf("%d lines, want 10 and 1 and 1", len(lines))
	}
	if m := decode(t, lines[0]); m["sni"] != `x\x0a.example` || m["cause"] != "unknown_name" || m["listener"] != "https" {
		t.Errorf("first line %v", m)
	}
	if m := decode(t, lines[10]); m["method"] != `G\x00T` || m["status"] != 400.0 {
		t.Errorf("malformed line %v", m)
	}
	if m := decode(t, lines[11]); m["skipped"] != 15.0 {
		t.Errorf("skipped %v, want 15", m["skipped"])
	}
}

func TestOff(t *testing.T) {
	l := open(t, "off", Options{})
	end := start(t, l)
	l.Exchange(sample1())
	l.Tunnel(&Tunnel{})
	l.Refusal(&Refusal{})
	if err := end(); err != nil || l.Enabled() || l.Dropped() != 0 {
		t.Errorf("enabled %v, dropped %d, %v", l.Enabled(), l.Dropped(), err)
	}
}

// counted counts the calls of Write.
type counted struct {
	bytes.Buffer
	calls int
}

func (c *counted) Write(p []byte) (int, error) { c.calls++; return c.Buffer.Write(p) }

func TestLinesShareWritesAndWaitAtMost100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out counted
		l := open(t, "stdout", Options{Stdout: &out})
		start(t, l)
		for range 50 {
			l.Exchange(sample1())
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		if n := strings.Count(out.String(), "\n"); n != 50 || out.calls != 1 {
			t.Errorf("%d lines in %d writes after 100 ms, want 50 in 1", n, out.calls)
		}
	})
}

// stuck blocks in Write until released.
type stuck struct {
	entered chan struct{}
	release chan struct{}
	mu      sync.Mutex
	out     bytes.Buffer
}

func newStuck() *stuck {
	return &stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
}

func (s *stuck) Write(p []byte) (int, error) {
	s.entered <- struct{}{}
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}

func TestSlowDestinationDropsAndCounts(t *testing.T) {
	w := newStuck()
	l := open(t, "stdout", Options{Stdout: w, Size: 256 << 10})
	end := start(t, l)
	l.Exchange(sample1())
	<-w.entered // the writer hangs; from now on only the queue takes lines
	const lines = 3000
	for range lines {
		l.Exchange(sample1())
	}
	if l.Dropped() == 0 {
		t.Fatal("nothing was dropped")
	}
	close(w.release)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	written := uint64(bytes.Count(w.out.Bytes(), []byte("\n")))
	if written+l.Dropped() != lines+1 {
		t.Errorf("%d written, %d dropped of %d", written, l.Dropped(), lines+1)
	}
}

func TestHangingDestinationDoesNotHoldUpTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newStuck()
		l := open(t, "stdout", Options{Stdout: w})
		end := start(t, l)
		l.Exchange(sample1())
		<-w.entered
		if err := end(); err == nil || !strings.Contains(err.Error(), "hangs") {
			t.Errorf("got %v", err)
		}
		close(w.release)
	})
}

// torn fails once in the middle of a line.
type torn struct {
	bytes.Buffer
	failed bool
}

func (w *torn) Write(p []byte) (int, error) {
	if !w.failed {
		w.failed = true
		n, _ := w.Buffer.Write(p[:10])
		return n, errors.New("disk full")
	}
	return w.Buffer.Write(p)
}

func TestFailedWriteIsCountedAndTornLineEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w torn
		var program bytes.Buffer
		l := open(t, "stdout", Options{Stdout: &w, Program: zerolog.New(&program)})
		end := start(t, l)
		l.Exchange(sample1())
		time.Sleep(batchTime)
		synctest.Wait()
		l.Exchange(sample1())
		end()
		lines := strings.Split(w.String(), "\n")
		if len(lines) != 3 || len(lines[0]) != 10 || !json.Valid([]byte(lines[1])) {
			t.Errorf("lines %q", lines)
		}
		if l.Dropped() != 1 {
			t.Errorf("dropped %d, want 1", l.Dropped())
		}
		if s := program.String(); !strings.Contains(s, "disk full") || !strings.Contains(s, "written again") {
			t.Errorf("program log %s", s)
		}
	})
}

func count(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte("\n"))
}

func TestReopenAndConfigure(t *testing.T) {
	dir := t.TempDir()
	first, moved, second := filepath.Join(dir, "a.log"), filepath.Join(dir, "a.log.1"), filepath.Join(dir, "b.log")
	l := open(t, first, Options{})
	end := start(t, l)
	l.Exchange(sample1())
	if err := os.Rename(first, moved); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	waitSwitched(t, l)
	l.Exchange(sample1())
	l.Exchange(sample1())
	if err := l.Configure(second, true); err != nil {
		t.Fatal(err)
	}
	waitSwitched(t, l)
	l.Exchange(sample1())
	if err := l.Configure(filepath.Join(dir, "no", "c.log"), false); err == nil {
		t.Error("a destination that cannot be opened was taken")
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if a, b, c := count(t, moved), count(t, first), count(t, second); a != 1 || b != 2 || c != 1 {
		t.Errorf("lines %d, %d, %d; want 1, 2, 1", a, b, c)
	}
	if l.Dropped() != 0 {
		t.Errorf("dropped %d", l.Dropped())
	}
}

// waitSwitched waits until the writer went over to a new destination.
func waitSwitched(t *testing.T, l *Log) {
	t.Helper()
	for range 1000 {
		l.mu.Lock()
		switched := l.next == nil
		l.mu.Unlock()
		if switched {
			return
		}
		<-time.After(5 * time.Millisecond)
	}
	t.Fatal("the writer did not switch")
}

func TestOpenFaults(t *testing.T) {
	for _, dest := range []string{"", t.TempDir(), "/nonexistent/usher/access.log"} {
		if _, err := Open(dest, Options{}); err == nil {
			t.Errorf("%q was opened", dest)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	l := open(t, "stdout", Options{Stdout: io.Discard})
	end := start(t, l)
	defer end()
	x := sample1()
	x.Path = []byte("/a\x1b\xff/ü" + strings.Repeat("x", 3000))
	tunnel := &Tunnel{Time: x.Time, Client: x.Client, SNI: "a\x85b", Backend: "10.0.0.1:443", Duration: time.Second}
	refusal := &Refusal{Time: x.Time, Cause: BadHello}
	for range 2000 { // until every chunk was allocated that is needed
		l.Exchange(x)
	}
	allocs := testing.AllocsPerRun(2000, func() {
		l.Exchange(x)
		l.Tunnel(tunnel)
		l.Refusal(refusal)
	})
	if allocs > 0 && !raceEnabled {
		t.Errorf("%v allocations per line", allocs)
	}
}

func BenchmarkExchange(b *testing.B) {
	l, err := Open("stdout", Options{Stdout: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		x := sample1()
		for pb.Next() {
			l.Exchange(x)
		}
	})
	cancel()
	<-done
	b.ReportMetric(float64(l.Dropped())/float64(b.N), "dropped/op")
}
