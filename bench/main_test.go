package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"usher/bench/load"
	"usher/bench/machine"
)

// TestMain lets the test binary be the backend and the load, as the bench is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "load" || os.Args[1] == "backend") {
		if err := run(os.Args[1:]); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newTestLab is a lab without proxies.
func newTestLab(t *testing.T) *lab {
	t.Helper()
	starter, err := machine.NewStarter(0)
	if err != nil {
		t.Fatal(err)
	}
	cores, err := machine.Cores()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{o: &options{}, dir: t.TempDir(), starter: starter, self: os.Args[0], loadCore: cores[0], proxyCore: cores[len(cores)-1], hellos: map[string]string{}}
	if err := l.credentials(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stopAll)
	return l
}

// listens waits until a backend does.
func listens(t *testing.T, b *farSide) {
	t.Helper()
	if err := b.command([]byte("stop")); err != nil {
		t.Fatal(err)
	}
}

// reaches waits until a count does.
func reaches(t *testing.T, what string, n uint64, count func() uint64) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); count() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: %d of %d in 20 s", what, count(), n)
		}
	}
}

// TestFloods runs each kind of flood against the backend itself.
func TestFloods(t *testing.T) {
	l := newTestLab(t)
	b, err := l.startBackend()
	if err != nil {
		t.Fatal(err)
	}
	listens(t, b)
	for _, p := range []load.Plan{
		{Kind: "h1", Addr: b.at.HTTP, Size: 128, Conns: 8},
		{Kind: "h1", Addr: b.at.HTTP, Size: 100 << 10, Conns: 8},
		{Kind: "post", Addr: b.at.HTTP, Size: 10 << 10, Conns: 8},
		{Kind: "once", Addr: b.at.Once, Conns: 8},
	} {
		requests := b.count.Requests.Load()
		source, count, err := l.saturate(b, p)
		if err != nil {
			t.Fatal(err)
		}
		reaches(t, p.Kind, 500, count.Done.Load)
		source.Stop()
		done := count.Done.Load()
		if count.Failed.Load() > 0 || b.count.Requests.Load()-requests < done {
			t.Errorf("%s: %d done, %d failed, the backend counted %d: %s", p.Kind, done, count.Failed.Load(), b.count.Requests.Load()-requests, b.Output())
		}
		// The backend may still answer what has come before the end.
		listens(t, b)
		if more := count.Done.Load() - done; more > 0 {
			t.Errorf("%s: %d requests done after the end", p.Kind, more)
		}
	}
}

// TestTLSFloods has a TLS server in front of the backend.
func TestTLSFloods(t *testing.T) {
	l := newTestLab(t)
	b, err := l.startBackend()
	if err != nil {
		t.Fatal(err)
	}
	listens(t, b)
	front := terminate(t, l, b.at.HTTP.String())
	for _, kind := range []string{"tls", "tls-full", "tls-resumed"} {
		source, count, err := l.saturate(b, load.Plan{Kind: kind, Addr: front, Size: 128, Conns: 4})
		if err != nil {
			t.Fatal(err)
		}
		reaches(t, kind, 50, count.Done.Load)
		source.Stop()
		if count.Failed.Load() > 0 {
			t.Errorf("%s: %d failed of %d: %s", kind, count.Failed.Load(), count.Done.Load(), b.Output())
		}
	}
}

// terminate is a proxy for one request after the other that closes when asked.
func terminate(t *testing.T, l *lab, to string) netip.AddrPort {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(l.cert, l.key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go relay(c, to)
		}
	}()
	return listener.Addr().(*net.TCPAddr).AddrPort()
}

func relay(c net.Conn, to string) {
	defer c.Close()
	vm, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer vm.Close()
	p, q := make([]byte, 4096), make([]byte, 4096)
	for {
		n, err := c.Read(p)
		if err != nil {
			return
		}
		vm.Write(p[:n])
		m, err := vm.Read(q)
		if err != nil {
			return
		}
		c.Write(q[:m])
		if bytes.Contains(p[:n], []byte("Connection: close")) {
			return
		}
	}
}

// TestLatencies: as many as were asked for, none of them nothing.
func TestLatencies(t *testing.T) {
	l := newTestLab(t)
	b, err := l.startBackend()
	if err != nil {
		t.Fatal(err)
	}
	listens(t, b)
	times, err := l.latencies(t.Context(), load.Plan{Kind: "h1", Addr: b.at.HTTP, Size: 128, Conns: 3}, 2000, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(times) != 100 {
		t.Errorf("%d latencies", len(times))
	}
	for _, v := range times {
		if v <= 0 || v > 1e7 {
			t.Errorf("a latency of %v µs", v)
		}
	}
}

// TestIdle: connections stay open, and their loss is counted.
func TestIdle(t *testing.T) {
	l := newTestLab(t)
	b, err := l.startBackend()
	if err != nil {
		t.Fatal(err)
	}
	listens(t, b)
	source, count, err := l.generate(load.Plan{Kind: "h1", Addr: b.at.HTTP, Size: 128, Conns: 20, Idle: true})
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, "open", 20, count.Done.Load)
	if count.Failed.Load() > 0 {
		t.Errorf("%d failed: %s", count.Failed.Load(), source.Output())
	}
	b.Stop()
	reaches(t, "lost", 20, count.Failed.Load)
	<-source.Exited()
}

// TestEveryRowHasOneID guards -rows against surprises.
func TestEveryRowHasOneID(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range entries() {
		if seen[e.id] || e.id == "" || e.name == "" {
			t.Errorf("row %q is there twice or has no name", e.id)
		}
		seen[e.id] = true
	}
	for _, args := range [][]string{{"-rows", "nonsense"}, {"-peers", "apache"}, {"-rounds", "-1"}, {"stray"}} {
		if _, err := parse(args); err == nil {
			t.Errorf("%v is taken", args)
		}
	}
	if _, _, err := twoCores("0,0"); err == nil {
		t.Error("one core is taken for two")
	}
	o, err := parse([]string{"-rows", "h1, idle-tls"})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]bool{"h1-128": true, "h1-100k": true, "idle-tls": true, "idle-plain": false, "h2-128": false} {
		if o.wants(id, false) != want {
			t.Errorf("-rows h1,idle-tls wants %s: %v", id, !want)
		}
	}
}
