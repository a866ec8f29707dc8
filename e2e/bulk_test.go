package e2e

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// gib is large enough that a buffered body shows.
const gib = int64(1) << 30

// zeros is an endless cheap body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestBulk: 2 GiB up and 2 GiB down, terminated and passed through, in flat
// memory.
func TestBulk(t *testing.T) {
	size := 2 * gib
	if testing.Short() {
		size /= 16
	}
	ca := peer.NewCA(t)
	script := func(l *peer.Link) {
		l.SetDeadline(time.Now().Add(5 * time.Minute))
		for {
			q, err := strict.ReadRequestHead(l.R)
			if err != nil {
				return
			}
			n, _ := strconv.ParseInt(q.Header.Get("Content-Length"), 10, 64)
			if got, err := io.CopyN(io.Discard, l.R, n); err != nil {
				t.Errorf("the VM got %d of %d bytes: %v", got, n, err)
				return
			}
			if q.Method == "PUT" {
				l.Say(peer.OK)
				continue
			}
			l.Say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size))
			io.CopyN(l.Conn, zeros{}, size)
		}
	}
	plain, secure := peer.Listen(t, script), peer.ListenTLS(t, ca.Server("pass.test"), script)
	u := builds.Start(t, rig.Config{Plain: true, Body: fmt.Sprintf(`[sites]
"term.test" = "http://%s"
"pass.test" = "passthrough://%s"`, plain.Addr, secure.Addr)})
	u.TLS("term.test").Close()
	before := resident(t, u.PID())
	for host, conf := range map[string]*tls.Config{
		"term.test": {ServerName: "term.test", RootCAs: u.Roots()},
		"pass.test": {ServerName: "pass.test", RootCAs: ca.Pool},
	} {
		c := u.TLSWith(conf)
		c.SetDeadline(time.Now().Add(5 * time.Minute))
		begin := time.Now()
		fmt.Fprintf(c, "PUT /up HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", host, size)
		if n, err := io.CopyN(c.Conn, zeros{}, size); err != nil {
			t.Fatalf("%s: sent %d bytes: %v", host, n, err)
		}
		p, err := strict.ReadResponse(c.R, "PUT")
		if err != nil || p.Status != 200 {
			t.Fatalf("%s: upload: %+v, %v", host, p, err)
		}
		fmt.Fprint(c, peer.Get(host, "/down"))
		n, err := download(c.R)
		if err != nil || n != size {
			t.Fatalf("%s: %d of %d bytes came down: %v", host, n, size, err)
		}
		t.Logf("%s: %d MiB each way in %v", host, size>>20, time.Since(begin).Round(time.Millisecond))
	}
	if grown := peak(t, u.PID()) - before; grown > 64<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
}

// download reads a response head and counts the body.
func download(r *bufio.Reader) (int64, error) {
	p, err := strict.ReadResponseHead(r)
	if err != nil {
		return 0, err
	}
	want, err := strconv.ParseInt(p.Header.Get("Content-Length"), 10, 64)
	if err != nil {
		return 0, err
	}
	return io.CopyN(io.Discard, r, want)
}

// resident is the memory that a process has now, peak the most it ever had.
func resident(t testing.TB, pid int) int64 { return status(t, pid, "VmRSS:") }

func peak(t testing.TB, pid int) int64 { return status(t, pid, "VmHWM:") }

func status(t testing.TB, pid int, key string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		if f := strings.Fields(l); len(f) == 3 && f[0] == key {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	t.Fatalf("no %s", key)
	return 0
}
