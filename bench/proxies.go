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
	"strings"
	"time"

	"usher/bench/backend"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
)

// peers are those that the bench knows.
func peers() []*peer.Proxy {
	return []*peer.Proxy{peer.Nginx(), peer.HAProxy(), peer.Caddy(), peer.SNIProxy()}
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
	for _, p := range peers() {
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
