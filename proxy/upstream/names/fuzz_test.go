package names

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1\tlocalhost ip6-localhost # this machine\n")
	f.Add("0.0.0.0 ads\n10.0.0.1\nfe80::1%eth0 Link. link\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		for name, addresses := range parseHosts([]byte(text)) {
			if name != strings.ToLower(name) || strings.ContainsAny(name, " \t\n#") {
				t.Errorf("name %q", name)
			}
			if len(addresses.v4)+len(addresses.v6) == 0 {
				t.Errorf("%q has no address", name)
			}
			for _, ip := range addresses.addresses() {
				if !usable(ip) || ip.Is4In6() {
					t.Errorf("%q is %v", name, ip)
				}
			}
		}
	})
}

func FuzzResolvConf(f *testing.F) {
	f.Add("nameserver 10.0.0.53\nsearch a b\noptions ndots:2 timeout:99999999999 attempts:-1\n", "web1")
	f.Add("domain x.\nnameserver ::1%eth0\nnameserver x\nsearch . ..\n", "a.b.")
	f.Fuzz(func(t *testing.T, text, name string) {
		c := configOf([]byte(text))
		if c.Timeout < 1 || c.Timeout > maxTimeout || c.Attempts < 1 || c.Attempts > maxTries || len(serversOf(c)) == 0 {
			t.Errorf("%+v", c)
		}
		w := &world{config: c}
		tried := 0
		err := w.search(name, func(fqdn string) error {
			tried++
			if _, err := new(dns.Msg).SetQuestion(fqdn, dns.TypeA).Pack(); err != nil {
				t.Errorf("tried %q: %v", fqdn, err)
			}
			return ErrNotFound
		})
		if err == nil || tried > len(c.Search)+1 {
			t.Errorf("%v after %d names", err, tried)
		}
	})
}

func FuzzReply(f *testing.F) {
	z := newZone("web1. 60 CNAME web2.", "web2. 60 A 10.0.0.1", "_w. 60 SRV 1 2 3 web2.")
	for _, q := range []struct {
		name string
		kind uint16
	}{{"web1.", dns.TypeA}, {"_w.", dns.TypeSRV}, {"none.", dns.TypeAAAA}} {
		b, err := z.answer(new(dns.Msg).SetQuestion(q.name, q.kind)).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, q.name, q.kind)
	}
	f.Fuzz(func(t *testing.T, b []byte, name string, kind uint16) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		found, ttl, err := records(m, name, kind)
		if (err == nil) != (len(found) > 0) || ttl < 0 {
			t.Errorf("%v %v %v", found, ttl, err)
		}
		targets, err := targetsOf(found)
		if err != nil {
			return
		}
		for i := range targets {
			targets[i].addresses = parseHosts([]byte("10.0.0.1 a\n10.0.0.2 a\nfd00::1 a"))["a"]
		}
		for _, e := range endpointsOf(targets) {
			if e.Port == 0 || !e.Addr.IsValid() {
				t.Errorf("%+v", e)
			}
		}
	})
}
