package names

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// serve runs a DNS server on loopback, UDP and TCP on one port.
func serve(t *testing.T, handle dns.HandlerFunc) string {
	t.Helper()
	for {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Listen("tcp", udp.LocalAddr().String())
		if err != nil {
			udp.Close() // somebody has that port
			continue
		}
		for _, s := range []*dns.Server{{PacketConn: udp, Handler: handle}, {Listener: tcp, Handler: handle}} {
			begun, ended := make(chan struct{}), make(chan error, 1)
			s.NotifyStartedFunc = func() { close(begun) }
			go func() { ended <- s.ActivateAndServe() }()
			<-begun
			t.Cleanup(func() {
				s.Shutdown()
				<-ended
			})
		}
		return udp.LocalAddr().String()
	}
}

// live is a Resolver that asks servers over the network.
func live(t *testing.T, resolvConf string, servers ...string) *Resolver {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "resolv.conf"), resolvConf)
	r := New(Options{ResolvConf: filepath.Join(dir, "resolv.conf"), Hosts: filepath.Join(dir, "hosts"), Servers: servers})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error("Run:", err)
		}
	})
	return r
}

// wait is the first answer.
func wait(t *testing.T, r *Resolver, host string, srv bool) string {
	t.Helper()
	f, release := r.Watch(host, srv)
	defer release()
	changed := make(chan struct{}, 1)
	defer f.Subscribe(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	if f.Answer() == nil {
		select {
		case <-changed:
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: no answer", host)
		}
	}
	return show(f.Answer())
}

func TestRealServer(t *testing.T) {
	z := newZone("web1.lan. 60 A 10.0.0.1", "web1.lan. 60 AAAA fd00::1",
		"_web._tcp.lan. 60 SRV 0 5 8080 web1.lan.", "_web._tcp.lan. 60 SRV 1 5 8080 web2.lan.", "web2.lan. 60 A 10.0.0.2")
	server := serve(t, func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(z.answer(m)) })
	r := live(t, "search lan\n", server)
	for host, text := range map[string]string{"web1": "10.0.0.1 fd00::1", "web1.lan": "10.0.0.1 fd00::1", "nobody": "!no such name"} {
		if got := wait(t, r, host, false); got != text {
			t.Errorf("%s: got %q, want %q", host, got, text)
		}
	}
	if got := wait(t, r, "_web._tcp", true); got != "10.0.0.1:8080*5 [fd00::1]:8080*5 10.0.0.2:8080*5~" && got != "10.0.0.1:8080*250 [fd00::1]:8080*250 10.0.0.2:8080*5~" {
		t.Errorf("got %q", got)
	}
}

func TestTruncatedAnswersComeOverTCP(t *testing.T) {
	z := newZone()
	for i := range 200 {
		z.add(fmt.Sprintf("big. 60 A 10.0.1.%d", i+1))
	}
	server := serve(t, func(w dns.ResponseWriter, m *dns.Msg) {
		reply := z.answer(m)
		if w.LocalAddr().Network() == "udp" {
			reply.Truncate(int(m.IsEdns0().UDPSize()))
		}
		w.WriteMsg(reply)
	})
	if got := strings.Fields(wait(t, live(t, "", server), "big", false)); len(got) != 200 || got[0] != "10.0.1.1" || got[199] != "10.0.1.200" {
		t.Errorf("%d addresses: %v", len(got), got)
	}
}

func TestOldServersAreAskedWithoutEDNS(t *testing.T) {
	z := newZone("web1. 60 A 10.0.0.1")
	for _, code := range []int{dns.RcodeFormatError, dns.RcodeNotImplemented} {
		server := serve(t, func(w dns.ResponseWriter, m *dns.Msg) {
			if m.IsEdns0() == nil {
				w.WriteMsg(z.answer(m))
				return
			}
			reply := new(dns.Msg).SetRcode(m, code)
			reply.Question = nil
			w.WriteMsg(reply)
		})
		if got := wait(t, live(t, "", server), "web1", false); got != "10.0.0.1" {
			t.Errorf("%s: got %q", dns.RcodeToString[code], got)
		}
	}
}

func TestWrongAnswersAreNotBelieved(t *testing.T) {
	z := newZone("web1. 60 A 10.0.0.1")
	for name, spoil := range map[string]func(*dns.Msg){
		"another question": func(m *dns.Msg) { m.Question[0].Name = "evil." },
		"no question":      func(m *dns.Msg) { m.Question = nil },
		"a query":          func(m *dns.Msg) { m.Response = false },
		"another class":    func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"a referral":       func(m *dns.Msg) { m.Answer, m.RecursionAvailable, m.Rcode = nil, false, dns.RcodeSuccess },
		"a failure":        func(m *dns.Msg) { m.Rcode = 12 },
	} {
		t.Run(name, func(t *testing.T) {
			var spoiled atomic.Int32
			bad := serve(t, func(w dns.ResponseWriter, m *dns.Msg) {
				reply := z.answer(m)
				spoil(reply)
				spoiled.Add(1)
				w.WriteMsg(reply)
			})
			good := serve(t, func(w dns.ResponseWriter, m *dns.Msg) { w.WriteMsg(z.answer(m)) })
			if got := wait(t, live(t, "", bad, good), "web1", false); got != "10.0.0.1" || spoiled.Load() == 0 {
				t.Errorf("got %q after %d bad answers", got, spoiled.Load())
			}
		})
	}
}

func TestRecordsOfOthersAreLeftOut(t *testing.T) {
	server := serve(t, func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg).SetReply(m)
		reply.RecursionAvailable = true
		for _, text := range []string{"evil. 60 A 10.6.6.6", "alias. 60 A 10.0.0.1", "WEB1. 60 CNAME Alias.", "web1. 60 CH A 10.6.6.7"} {
			if rr, err := dns.NewRR(text); err == nil && m.Question[0].Qtype == dns.TypeA {
				reply.Answer = append(reply.Answer, rr)
			}
		}
		w.WriteMsg(reply)
	})
	if got := wait(t, live(t, "", server), "web1", false); got != "10.0.0.1" {
		t.Errorf("got %q", got)
	}
}

func TestALoopOfAliasesEnds(t *testing.T) {
	server := serve(t, func(w dns.ResponseWriter, m *dns.Msg) {
		reply := new(dns.Msg).SetReply(m)
		a, _ := dns.NewRR("web1. 60 CNAME web2.")
		b, _ := dns.NewRR("web2. 60 CNAME web1.")
		reply.Answer = []dns.RR{a, b}
		w.WriteMsg(reply)
	})
	if got := wait(t, live(t, "", server), "web1", false); got != "!no such name" {
		t.Errorf("got %q", got)
	}
}

func TestClosedPortIsARefusal(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := c.LocalAddr().String()
	c.Close()
	if got := wait(t, live(t, "", server), "web1", false); got != "!no answer from "+server+": connection refused" {
		t.Errorf("got %q", got)
	}
}

func TestTheFilesOfThisMachineAreReadByDefault(t *testing.T) {
	r := New(Options{})
	if r.files.hosts.path != "/etc/hosts" || r.files.resolvConf.path != "/etc/resolv.conf" {
		t.Error(r.files.hosts.path, r.files.resolvConf.path)
	}
	missing := New(Options{Hosts: "/nonexistent/hosts", ResolvConf: "/nonexistent/resolv.conf"})
	if !missing.files.reread() || strings.Join(missing.files.present().servers, " ") != "127.0.0.1:53 [::1]:53" {
		t.Error("without resolv.conf:", missing.files.present().servers)
	}
}
