package names

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

const (
	maxFile    = 4 << 20     // of hosts and resolv.conf that is read
	maxTimeout = 30          // seconds, see resolv.conf(5)
	maxTries   = 5           // see resolv.conf(5)
	statEvery  = time.Second // at most
)

// world is what the files of the machine say. It is never changed.
type world struct {
	hosts   map[string]family // by lower-case name without a dot at the end
	config  *dns.ClientConfig // search, ndots, timeout, attempts
	servers []string          // "ip:port"
}

// files keeps the world up to date.
type files struct {
	servers []string // instead of those of resolv.conf
	world   atomic.Pointer[world]

	mu                sync.Mutex
	resolvConf, hosts file      // mu
	looked            time.Time // mu
}

// present is the world of the latest reread.
func (f *files) present() *world { return f.world.Load() }

// file is what is remembered of a file.
type file struct {
	path string
	info os.FileInfo // of what was read; nil: none
}

// reread looks whether a file has changed, at most once a second, and reports
// that it has and was read.
func (f *files) reread() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.world.Load()
	if old != nil && time.Since(f.looked) < statEvery {
		return false
	}
	f.looked = time.Now()
	next := &world{}
	if old != nil {
		*next = *old
	}
	changed := false
	if b, ok := f.resolvConf.changed(); ok || old == nil {
		next.config, changed = configOf(b), true
		next.servers = f.servers
		if next.servers == nil {
			next.servers = serversOf(next.config)
		}
	}
	if b, ok := f.hosts.changed(); ok || old == nil {
		next.hosts, changed = parseHosts(b), true
	}
	if changed {
		f.world.Store(next)
	}
	return changed
}

// changed reads a file that is another than before. One that vanishes, or
// cannot be read, is as it was: it may just be replaced.
func (f *file) changed() ([]byte, bool) {
	info, err := os.Stat(f.path)
	if err != nil || f.info != nil && os.SameFile(info, f.info) && info.ModTime().Equal(f.info.ModTime()) && info.Size() == f.info.Size() {
		return nil, false
	}
	open, err := os.Open(f.path)
	if err != nil {
		return nil, false
	}
	defer open.Close()
	b, err := io.ReadAll(io.LimitReader(open, maxFile))
	if err != nil {
		return nil, false
	}
	f.info = info
	return b, true
}

// configOf reads resolv.conf.
func configOf(b []byte) *dns.ClientConfig {
	c, err := dns.ClientConfigFromReader(bytes.NewReader(b))
	if err != nil {
		c = &dns.ClientConfig{Ndots: 1, Timeout: 5, Attempts: 2}
	}
	c.Timeout = min(max(c.Timeout, 1), maxTimeout)
	c.Attempts = min(max(c.Attempts, 1), maxTries)
	return c
}

// serversOf are the name servers, of this machine when there is none.
func serversOf(c *dns.ClientConfig) (list []string) {
	for _, ip := range c.Servers {
		if _, err := netip.ParseAddr(ip); err == nil {
			list = append(list, net.JoinHostPort(ip, "53"))
		}
	}
	if list == nil {
		list = []string{"127.0.0.1:53", "[::1]:53"}
	}
	return list
}
