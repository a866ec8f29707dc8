package rig

import (
	"net"
	"testing"

	"github.com/miekg/dns"
)

// names starts a DNS server that knows one IPv4 address for every name, and
// returns where it is.
func names(t testing.TB, ip string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", LoopbackIP()+":0") // Pebble asks by TCP
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan bool), make(chan bool)
	s := &dns.Server{Listener: l, Handler: oneAddress(ip), NotifyStartedFunc: func() { close(started) }}
	go func() {
		defer close(ended)
		s.ActivateAndServe()
	}()
	<-started
	t.Cleanup(func() {
		s.Shutdown()
		<-ended
	})
	return l.Addr().String()
}

// oneAddress answers questions for A records; of everything else there is
// none.
func oneAddress(ip string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		answer := new(dns.Msg)
		answer.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			head := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}
			answer.Answer = append(answer.Answer, &dns.A{Hdr: head, A: net.ParseIP(ip)})
		}
		w.WriteMsg(answer)
	}
}
