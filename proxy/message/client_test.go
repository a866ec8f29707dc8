package message

import (
	"io"
	"net/netip"
	"testing"
)

type closes int

func (c *closes) Close() error { *c++; return nil }

func TestLentClient(t *testing.T) {
	addr, local := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort("[2001:db8::1]:80")
	c := Borrow(addr, local)
	if c.Addr != addr || c.Local != local || c.Peer != addr.Addr() || c.Proto != HTTP1 || c.TLS || !c.Lent() {
		t.Errorf("borrowed %+v", c)
	}
	vm := new(closes)
	c.Attach("vm", vm)
	if c.Give() {
		t.Fatal("what is attached was given away")
	}
	if c.Detach("vm") != io.Closer(vm) || *vm > 0 {
		t.Fatal("it was lost")
	}
	if !c.Give() {
		t.Error("kept with nothing attached")
	}
	c = Borrow(local, addr)
	if c.Addr != local || c.Local != addr || c.Detach("vm") != nil {
		t.Errorf("borrowed again: %+v", c)
	}
	c.Attach("vm", vm)
	if c.Close(); *vm != 1 || c.Give() {
		t.Errorf("closed %d times, or lent again", *vm)
	}
}

func TestOwnClientIsNotGiven(t *testing.T) {
	if c := new(Client); c.Give() || c.Lent() {
		t.Error("a Client was given to those that are lent")
	}
}
