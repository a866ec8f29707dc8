package upstream

import (
	"errors"
	"net/netip"
	"testing"
)

func udpSpec(a ...Address) Spec {
	s := spec(a...)
	s.UDP = true
	return s
}

func assign(t *testing.T, p *Pool, client string) *Lease {
	t.Helper()
	l, err := p.Assign(t.Context(), netip.MustParseAddr(client))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestAssignKeepsClients: a client stays with its VM while that one works, and
// others go elsewhere.
func TestAssignKeepsClients(t *testing.T) {
	one, two := Address{Host: "192.0.2.1", Port: 53}, Address{Host: "192.0.2.2", Port: 53}
	p := pool(t, udpSpec(one, two), Dialer{})
	first := map[string]string{}
	share := map[string]int{}
	for round := range 3 {
		for i := range 200 {
			client := netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}).String()
			l := assign(t, p, client)
			got := l.Addr().String()
			l.Done()
			if round == 0 {
				first[client] = got
				share[got]++
			} else if first[client] != got {
				t.Fatalf("%s went to %s and then to %s", client, first[client], got)
			}
		}
	}
	if len(share) != 2 || share["192.0.2.1:53"] < 60 || share["192.0.2.2:53"] < 60 {
		t.Errorf("200 clients: %v", share)
	}
}

// TestAssignAfterRefusal: a VM that refuses is left out until it answers.
func TestAssignAfterRefusal(t *testing.T) {
	p := pool(t, udpSpec(Address{Host: "192.0.2.1", Port: 53}, Address{Host: "192.0.2.2", Port: 53}), Dialer{})
	l := assign(t, p, "198.51.100.7")
	own := l.Addr()
	l.Refused(errors.New("port unreachable"))
	l.Done()
	for range 5 {
		l := assign(t, p, "198.51.100.7")
		if l.Addr() == own {
			t.Fatalf("sent to %s, which refused", own)
		}
		l.Done()
	}
	for _, b := range p.Backends() {
		if b.addr == own {
			l := &Lease{pool: p, backend: b}
			l.Answered()
		}
	}
	if l := assign(t, p, "198.51.100.7"); l.Addr() != own {
		t.Errorf("%s has answered, but the client goes to %s", own, l.Addr())
	}
}

// TestAssignNotToItself: our own ports are no backends.
func TestAssignNotToItself(t *testing.T) {
	s := udpSpec(Address{Host: "127.0.0.1", Port: 53})
	s.Forbid = &Own{Has: func(a netip.AddrPort) bool { return a.Port() == 53 }}
	p := pool(t, s, Dialer{})
	if l, err := p.Assign(t.Context(), netip.MustParseAddr("198.51.100.7")); !errors.Is(err, errOwn) {
		t.Errorf("%v, %v", l, err)
	}
	if n := p.Backends()[0].active.Load(); n != 0 {
		t.Errorf("%d sessions are counted", n)
	}
	if b := p.Own(); b == nil || b.String() != p.Backends()[0].String() {
		t.Errorf("the backend that is usher itself: %v", b)
	}
	if b := pool(t, udpSpec(Address{Host: "127.0.0.1", Port: 53}), Dialer{}).Own(); b != nil {
		t.Errorf("nothing is forbidden, and yet %v", b)
	}
}

// TestUDPHasPoolsOfItsOwn: the same address over TCP is another matter.
func TestUDPHasPoolsOfItsOwn(t *testing.T) {
	a := Address{Host: "192.0.2.1", Port: 53}
	x, y := spec(a), udpSpec(a)
	k, _ := x.key(nil)
	if other, _ := y.key(nil); k == other {
		t.Error("the same pool")
	}
}
