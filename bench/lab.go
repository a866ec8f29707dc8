package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"usher/bench/backend"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
)

// lab is where a run happens: a directory, two cores, the proxies and what is
// running.
type lab struct {
	o         *options
	alone     net.Listener // that no other bench has while this one runs
	dir       string
	self      string // this program
	starter   *machine.Starter
	proxyCore int
	loadCore  int
	proxies   []*peer.Proxy
	cert, key string // PEM files
	both      string
	openssl   string            // configuration of clients that use OpenSSL
	hellos    map[string]string // by server name, files
	running   []stopper
	made      int // files and directories
}

type stopper interface{ Stop() }

// newLab makes everything that rows need. close removes it.
func newLab(ctx context.Context, o *options) (l *lab, err error) {
	alone, err := onlyOne(ctx)
	if err != nil {
		return nil, err
	}
	l = &lab{o: o, alone: alone, hellos: map[string]string{}}
	defer func(made *lab) {
		if err != nil {
			made.close()
		}
	}(l)
	if l.dir, err = os.MkdirTemp("", "usher-bench-"); err != nil {
		return nil, err
	}
	cores, err := machine.Cores()
	if err != nil {
		return nil, err
	}
	if len(cores) < 2 {
		return nil, errors.New("two cores are needed: one for the proxy, one for load and backend")
	}
	l.proxyCore, l.loadCore = cores[0], cores[1]
	if l.starter, err = machine.NewStarter(o.nice); err != nil {
		return nil, err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	limit.Cur = min(limit.Max, maxFiles)
	if limit.Cur < maxFiles {
		fmt.Fprintf(os.Stderr, "only %d descriptors for each process, %d are needed for the rows on memory\n", limit.Cur, maxFiles)
	}
	limit.Max = limit.Cur
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return nil, err
	}
	if l.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if err := l.credentials(); err != nil {
		return nil, err
	}
	if err := l.findProxies(ctx); err != nil {
		return nil, err
	}
	if o.nice < 0 {
		syscall.Setpriority(syscall.PRIO_PROCESS, 0, o.nice) // what reads the clocks must not wait
		os.WriteFile("/proc/self/autogroup", []byte(strconv.Itoa(o.nice)), 0)
	}
	return l, machine.Pin(l.loadCore)
}

// maxFiles is for every process; 9,000 tunnels need 18,000.
const maxFiles = 20_000

func (l *lab) close() {
	l.stopAll()
	if l.dir != "" {
		os.RemoveAll(l.dir)
	}
	l.alone.Close()
}

// onlyOne waits until no other bench runs on the machine, which would use the
// same cores. The name is not in the file system, and goes with the process.
func onlyOne(ctx context.Context) (net.Listener, error) {
	for told := false; ; told = true {
		l, err := net.Listen("unix", "@usher-bench")
		if !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
		if !told {
			fmt.Fprintln(os.Stderr, "waiting for another bench to end")
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// stopAll ends what is running, the last first.
func (l *lab) stopAll() {
	for _, r := range slices.Backward(l.running) {
		r.Stop()
	}
	l.running = nil
}

// findProxies builds usher if need be and names the packages that are missing.
func (l *lab) findProxies(ctx context.Context) error {
	if l.o.usher == "" {
		l.o.usher = filepath.Join(l.dir, "usher")
		root, err := checkout(ctx)
		if err != nil {
			return err
		}
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", l.o.usher, "./cmd/usher")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build usher: %w\n%s", err, out)
		}
	}
	path, err := filepath.Abs(l.o.usher)
	if err != nil {
		return err
	}
	l.proxies = []*peer.Proxy{peer.Usher(report.Usher, path)}
	if l.o.usher2 != "" {
		if path, err = filepath.Abs(l.o.usher2); err != nil {
			return err
		}
		l.proxies = append(l.proxies, peer.Usher(report.Other, path))
	}
	if l.o.peers == "" {
		return nil
	}
	var missing []string
	for _, p := range []*peer.Proxy{peer.Nginx(), peer.HAProxy(), peer.Caddy(), peer.SNIProxy()} {
		if !l.o.has(p.Name) {
			continue
		}
		l.proxies = append(l.proxies, p)
		if p.Path == "" {
			missing = append(missing, p.Package)
		} else if p.Name == "nginx" {
			if _, err := os.Stat(peer.NginxStream(p.Path)); err != nil {
				missing = append(missing, "libnginx-mod-stream")
			}
		}
	}
	if peer.Find("h2load") == "" {
		missing = append(missing, "nghttp2-client")
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("missing: install with\n\tapt-get install --no-install-recommends %s", strings.Join(missing, " "))
	}
	return nil
}

// checkout is the directory of usher's own module.
func checkout(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	dir := filepath.Dir(strings.TrimSpace(string(out)))
	if filepath.Base(dir) == "bench" {
		dir = filepath.Dir(dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "cmd", "usher")); err != nil {
		return "", errors.New("run it in the checkout of usher, or in bench/ there")
	}
	return dir, nil
}

// launch starts a proxy for a task of which only what differs is given.
func (l *lab) launch(p *peer.Proxy, t peer.Task) (*peer.Instance, error) {
	ports, err := machine.FreePorts(3)
	if err != nil {
		return nil, err
	}
	t.Dir, t.Core, t.Root = l.file(p.Name), l.proxyCore, os.Getuid() == 0
	t.Plain, t.TLS, t.Pass = ports[0], ports[1], ports[2]
	t.Cert, t.Key, t.Both = l.cert, l.key, l.both
	i, err := p.Start(l.starter, t)
	if err != nil {
		return nil, err
	}
	l.running = append(l.running, i)
	return i, nil
}

// startProxy starts a proxy and waits until it listens. log switches the
// access log on.
func (l *lab) startProxy(ctx context.Context, p *peer.Proxy, to backend.Addresses, log bool) (*peer.Instance, error) {
	t := peer.Task{Backend: to}
	if log {
		t.Log = l.file("access") + ".log"
	}
	i, err := l.launch(p, t)
	if err != nil {
		return nil, err
	}
	at := i.Task.Plain
	if p.Name == "sniproxy" {
		at = i.Task.Pass
	}
	for deadline := time.Now().Add(20 * time.Second); ; {
		c, err := net.Dial("tcp", at.String())
		if err == nil {
			c.Close()
			return i, nil
		}
		select {
		case <-i.Exited():
			return nil, fmt.Errorf("%s ended: %s", p.Name, i.Output())
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%s does not listen at %s: %s", p.Name, at, i.Output())
		}
	}
}

// file is a new path in the lab's directory.
func (l *lab) file(name string) string {
	l.made++
	return filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.made))
}
