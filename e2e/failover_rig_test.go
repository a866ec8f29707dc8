package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// mortal is an nginx that can be killed and started again at its addresses.
type mortal struct {
	t             *testing.T
	Plain, Secure string
	dir           string
	cmd           *exec.Cmd
}

// newMortal runs an nginx that serves a page of 10 KiB at /page and its name at
// /who, on a plain and a TLS port.
func newMortal(t *testing.T, ca *peer.CA, name string, hosts ...string) *mortal {
	t.Helper()
	ip := rig.LoopbackIP()
	m := writeMortal(t, ca, name, rig.FreePort(t, ip), rig.FreePort(t, ip), hosts...)
	m.Up()
	t.Cleanup(m.Kill)
	return m
}

// writeMortal writes the configuration of such an nginx.
func writeMortal(t *testing.T, ca *peer.CA, name, plain, secure string, hosts ...string) *mortal {
	t.Helper()
	dir := t.TempDir()
	m := &mortal{t: t, Plain: plain, Secure: secure, dir: dir}
	cert, key := ca.Write(dir, "nginx", hosts...)
	peer.Replace(t, filepath.Join(dir, "page"), make([]byte, 10<<10))
	peer.Replace(t, filepath.Join(dir, "nginx.conf"), fmt.Appendf(nil, `daemon off;
master_process off;
pid %[1]s/pid;
error_log %[1]s/error.log;
worker_rlimit_nofile 4096;
events { worker_connections 2000; }
http {
	access_log off;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	keepalive_requests 1000000;
	server {
		listen %[2]s backlog=1024;
		listen %[3]s ssl backlog=1024;
		ssl_certificate %[4]s;
		ssl_certificate_key %[5]s;
		root %[1]s;
		location = /who { return 200 "%[6]s"; }
	}
}
`, dir, m.Plain, m.Secure, cert, key, name))
	return m
}

// Up starts it and waits until it answers.
func (m *mortal) Up() {
	m.t.Helper()
	m.cmd = exec.Command(rig.Find(m.t, "nginx"), "-e", m.dir+"/error.log", "-p", m.dir, "-c", m.dir+"/nginx.conf")
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	rig.Eventually(m.t, "nginx answers at "+m.Plain, func() bool {
		r, err := http.Get("http://" + m.Plain + "/who")
		if err != nil {
			return false
		}
		r.Body.Close()
		return true
	})
}

// Kill ends it with SIGKILL and returns when it is gone.
func (m *mortal) Kill() {
	if m.cmd != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		m.cmd = nil
	}
}

// load asks for /page over and over, from as many workers as it is told, and
// keeps what went wrong.
type load struct {
	t     *testing.T
	stop  chan struct{}
	group sync.WaitGroup
	count atomic.Int64

	mu     sync.Mutex
	faults []string
	took   []time.Duration
}

func newLoad(t *testing.T) *load { return &load{t: t, stop: make(chan struct{})} }

// add begins to send GETs; excused, if not nil, says whether a failure of one
// that began at a time is nobody's fault.
func (l *load) add(workers int, client *http.Client, url string, excused func(began time.Time) bool) {
	for range workers {
		l.group.Go(func() {
			for {
				select {
				case <-l.stop:
					return
				default:
				}
				began := time.Now()
				err := l.get(client, url)
				l.count.Add(1)
				if err != nil && (excused == nil || !excused(began)) {
					l.fault(fmt.Sprintf("%s after %v: %v", url, time.Since(began).Round(time.Millisecond), err))
				}
			}
		})
	}
}

func (l *load) get(client *http.Client, url string) error {
	began := time.Now()
	r, err := client.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != 200 || len(b) != 10<<10 {
		return fmt.Errorf("%d, %d bytes, %w", r.StatusCode, len(b), err)
	}
	l.mu.Lock()
	l.took = append(l.took, time.Since(began))
	l.mu.Unlock()
	return nil
}

func (l *load) fault(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, s)
}

// goesOn waits until n more requests have ended.
func (l *load) goesOn(n int64) {
	l.t.Helper()
	want := l.count.Load() + n
	rig.EventuallyWithin(l.t, time.Minute, "the load goes on", func() bool { return l.count.Load() >= want })
}

// end stops the load and reports what failed.
func (l *load) end() {
	l.t.Helper()
	close(l.stop)
	l.group.Wait()
	slices.Sort(l.took)
	n := len(l.took)
	if n == 0 {
		l.t.Fatal("no request succeeded")
	}
	l.t.Logf("%d requests, %d failed; p50 %v, p99 %v, longest %v", l.count.Load(), len(l.faults), l.took[n/2], l.took[n*99/100], l.took[n-1])
	for i, f := range l.faults {
		if i == 10 {
			l.t.Errorf("and %d more", len(l.faults)-10)
			break
		}
		l.t.Error(f)
	}
}

// script writes an executable shell script.
func script(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
