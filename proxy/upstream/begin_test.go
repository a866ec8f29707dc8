package upstream

import (
	"context"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// TestBeginOnlyWithWhoWasThere: a VM that could not be dialed is dialed with
// all the questions next time, and then it is at hand again.
func TestBeginOnlyWithWhoWasThere(t *testing.T) {
	vm := newVM(t, "127.3.1.4:0", serve) // nobody else takes its port meanwhile
	to := vm.l.Addr().String()
	vm.stop()
	s := spec(vm.address())
	s.Hold, s.NoEjection = 0, true
	d := new(socket.Dialer)
	p := pool(t, s, Dialer{Dial: d.Dial, Begin: d.Begin, Finish: d.Finish})
	begin := func() (a *Attempt, ok bool) {
		lease, fd, _, a, ok := p.Begin(&message.Client{}, []byte("hello"), time.Now())
		if ok && a == nil {
			unix.Close(fd)
			lease.Done()
		}
		return a, ok
	}
	a, ok := begin()
	if !ok || a == nil {
		t.Fatal("nothing was tried, or somebody was there")
	}
	if _, err := a.Finish(context.Background(), nil); err == nil {
		t.Fatal("somebody is there")
	}
	if _, ok := begin(); ok {
		t.Error("tried without the questions after it was not there")
	}
	newVM(t, to, serve)
	l, err := p.Dial(context.Background(), &message.Client{}, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	l.Socket().Close()
	l.Done()
	if a, ok := begin(); !ok || a != nil {
		t.Error("not tried at once although it is there")
	}
}
