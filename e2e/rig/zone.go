package rig

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// Zone is a DNS server on port 53 of an address of its own, which needs root.
type Zone struct {
	t       testing.TB
	ip      string
	mu      sync.Mutex
	records []dns.RR // mu
	rcode   int      // mu; of every answer unless it is 0
	silent  bool     // mu
	asked   int      // mu
}

// NewZone starts a server with records in the notation of zone files.
func NewZone(t testing.TB, records ...string) *Zone {
	t.Helper()
	z := &Zone{t: t, ip: LoopbackIP()}
	z.Set(records...)
	at := net.JoinHostPort(z.ip, "53")
	p, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: p}, {Listener: l}} {
		started, ended := make(chan bool), make(chan bool)
		s.Handler, s.NotifyStartedFunc = dns.HandlerFunc(z.answer), func() { close(started) }
		go func() {
			defer close(ended)
			s.ActivateAndServe()
		}()
		<-started
		t.Cleanup(func() {
			s.Shutdown()
			<-ended
		})
	}
	return z
}

// Set replaces all records.
func (z *Zone) Set(records ...string) {
	z.t.Helper()
	var all []dns.RR
	for _, text := range records {
		rr, err := dns.NewRR(text)
		if err != nil {
			z.t.Fatal(err)
		}
		all = append(all, rr)
	}
	z.change(func() { z.records, z.rcode, z.silent = all, 0, false })
}

// Fail has the server answer SERVFAIL from now on.
func (z *Zone) Fail() { z.change(func() { z.rcode = dns.RcodeServerFailure }) }

// Silence has the server answer nothing from now on.
func (z *Zone) Silence() { z.change(func() { z.silent = true }) }

func (z *Zone) change(f func()) {
	z.mu.Lock()
	defer z.mu.Unlock()
	f()
}

// Asked is how many questions came.
func (z *Zone) Asked() (n int) {
	z.change(func() { n = z.asked })
	return n
}

func (z *Zone) answer(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.RecursionAvailable = true
	known, silent := false, false
	z.change(func() {
		z.asked++
		m.Rcode, silent = z.rcode, z.silent
		for _, rr := range z.records {
			if !strings.EqualFold(rr.Header().Name, q.Question[0].Name) {
				continue
			}
			known = true
			if rr.Header().Rrtype == q.Question[0].Qtype && z.rcode == 0 {
				m.Answer = append(m.Answer, rr)
			}
		}
	})
	if silent {
		return
	}
	if !known && m.Rcode == 0 {
		m.Rcode = dns.RcodeNameError
	}
	w.WriteMsg(m)
}

// Wrap is the command that runs another one with this server as its resolver.
func (z *Zone) Wrap() []string {
	z.t.Helper()
	file := filepath.Join(z.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver "+z.ip+"\n"), 0o644); err != nil {
		z.t.Fatal(err)
	}
	return []string{Find(z.t, "unshare"), "--mount", "sh", "-ec", `mount --bind "$0" /etc/resolv.conf; exec "$@"`, file}
}
