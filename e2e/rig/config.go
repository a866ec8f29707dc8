package rig

import (
	"crypto/rand"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Config is what a test says of the process that it wants. The rig fills in
// addresses, state and sockets.
type Config struct {
	Body   string   // the file from its first table on; [listen], [admin] and [log] are the rig's
	Top    string   // keys before the first table
	Listen string   // more keys of [listen]
	Log    string   // more keys of [log]
	IPv6   bool     // listen on ::1 as well
	NoHTTP bool     // http = []
	Env    []string // added to the environment
	Plain  bool     // without the race detector, for measurements
	NoFile uint64   // limit of descriptors; 0 leaves it
}

// Place is where a process listens and keeps its things.
type Place struct {
	IP            string // a loopback address of its own
	HTTP, HTTPS   string // host:port
	HTTP6, HTTPS6 string
	Dir           string
	File, State   string
	Admin         string // path of the socket
	AdminTCP      string // host:port instead, where a test writes that into the file
	conf          Config
}

// newPlace reserves ports by binding and closing them. Nothing else on the
// machine binds on a random address of 127.0.0.0/8, so they stay free.
func newPlace(t testing.TB, c Config) *Place {
	t.Helper()
	dir, err := os.MkdirTemp("", "usher-e2e-") // short: a socket's path is limited
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Place{IP: LoopbackIP(), Dir: dir, File: filepath.Join(dir, "config.toml"),
		State: filepath.Join(dir, "state"), Admin: filepath.Join(dir, "admin.sock"), conf: c}
	p.HTTP, p.HTTPS = FreePort(t, p.IP), FreePort(t, p.IP)
	if c.IPv6 {
		p.HTTP6, p.HTTPS6 = FreePort(t, "::1"), FreePort(t, "::1")
	}
	p.Write(t, c.Body)
	return p
}

// LoopbackIP is a random address of 127.0.0.0/8 other than 127.0.x.x.
func LoopbackIP() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("127.%d.%d.%d", 1+b[0]%254, b[1], 1+b[2]%254)
}

// given holds what FreePort has said: a port is free again for the system
// before its taker has bound it.
var given sync.Map

// FreePort is an address with a port that was free for TCP and UDP a moment
// ago, that no other call got, and that lies below the ports which the system
// itself gives out.
func FreePort(t testing.TB, ip string) string {
	t.Helper()
	for range 100 {
		addr := net.JoinHostPort(ip, strconv.Itoa(10_000+mathrand.IntN(22_000)))
		if _, taken := given.LoadOrStore(addr, true); taken {
			continue
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		u, err := net.ListenPacket("udp", addr)
		l.Close()
		if err == nil {
			u.Close()
			return addr
		}
	}
	t.Fatal("no free port on ", ip)
	return ""
}

// Port is the port of a host:port.
func Port(addr string) uint16 { return netip.MustParseAddrPort(addr).Port() }

// Write replaces the configuration file in one step: body takes the place of
// Config.Body.
func (p *Place) Write(t testing.TB, body string) {
	t.Helper()
	if err := os.WriteFile(p.File+".new", []byte(p.Text(body)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.File+".new", p.File); err != nil {
		t.Fatal(err)
	}
}

// Text is the whole configuration file for a body.
func (p *Place) Text(body string) string {
	http, https := list(p.HTTP, p.HTTP6), list(p.HTTPS, p.HTTPS6)
	if p.conf.NoHTTP {
		http = "[]"
	}
	return fmt.Sprintf("state_dir = %q\n%s\n[listen]\nhttp = %s\nhttps = %s\n%s\n[admin]\nlisten = %q\n[log]\n%s\n%s\n",
		p.State, p.conf.Top, http, https, p.conf.Listen, "unix:"+p.Admin, p.conf.Log, body)
}

func list(addrs ...string) string {
	var quoted []string
	for _, a := range addrs {
		if a != "" {
			quoted = append(quoted, fmt.Sprintf("%q", a))
		}
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}
