package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"usher/bench/machine"
	"usher/bench/peer"
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
	if l.proxyCore, l.loadCore, err = twoCores(o.cores); err != nil {
		return nil, err
	}
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

// twoCores are those that were asked for, or the first two.
func twoCores(asked string) (proxy, load int, err error) {
	cores, err := machine.Cores()
	if err != nil {
		return 0, 0, err
	}
	if asked == "" {
		if len(cores) < 2 {
			return 0, 0, errors.New("two cores are needed: one for the proxy, one for load and backend")
		}
		return cores[0], cores[1], nil
	}
	if n, err := fmt.Sscanf(asked, "%d,%d", &proxy, &load); n != 2 || err != nil || proxy == load || !slices.Contains(cores, proxy) || !slices.Contains(cores, load) {
		return 0, 0, fmt.Errorf("-cores %s: not two of %v", asked, cores)
	}
	return proxy, load, nil
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

// file is a new path in the lab's directory.
func (l *lab) file(name string) string {
	l.made++
	return filepath.Join(l.dir, fmt.Sprintf("%s-%d", name, l.made))
}
