package datagram

import (
	"context"
	"errors"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// TestEcho: clients have sessions of their own, and every size of a datagram
// goes both ways.
func TestEcho(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	r := relayed(t, Limits{})
	l := served(t, r, "127.0.0.1:0", o)
	var all sync.WaitGroup
	for i := range 20 {
		c := dialed(t, l.Addr())
		all.Go(func() {
			for j := range 50 {
				c.ask(strings.Repeat(strconv.Itoa(i), j))
			}
			c.ask("")
		})
	}
	all.Wait()
	if n := o.answers.Load(); n != 20 {
		t.Errorf("%d sessions were answered", n)
	}
	if n := o.opened.Load(); n != 20 || l.Sessions() != 20 || r.Sessions() != 20 {
		t.Errorf("%d opened, %d of the listener, %d of the relay", n, l.Sessions(), r.Sessions())
	}
	dialed(t, l.Addr()).ask(strings.Repeat("x", 65507)) // the largest there is
}

// TestBursts: more than a batch at once, in order.
func TestBursts(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	c.ask("hello")
	for i := range 200 {
		c.say(strconv.Itoa(i))
	}
	for i := range 200 {
		c.hear(strconv.Itoa(i))
	}
}

// TestAnswersComeFromWhereTheClientSent: a listener of all addresses answers
// from the one that was asked; the client hears no other.
func TestAnswersComeFromWhereTheClientSent(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	r := relayed(t, Limits{})
	for _, address := range []string{":0", "0.0.0.0:0"} {
		l := served(t, r, address, o)
		port := l.Addr().Port()
		asked := []string{"127.0.0.1", "127.0.0.2", "127.3.4.5"}
		if address == ":0" {
			asked = append(asked, "::1")
		}
		for _, ip := range asked {
			dialed(t, netip.AddrPortFrom(netip.MustParseAddr(ip), port)).ask("from " + ip)
		}
		// One client socket that asks two addresses has two sessions.
		c := packets(t, "127.0.0.1:0")
		for _, ip := range asked[:2] {
			at := netip.AddrPortFrom(netip.MustParseAddr(ip), port)
			c.WriteToUDPAddrPort([]byte("x"), at)
			c.SetReadDeadline(time.Now().Add(patience))
			if _, from, err := c.ReadFromUDPAddrPort(make([]byte, 9)); err != nil || from.Addr().Unmap() != at.Addr() {
				t.Errorf("asked %s, answered from %s, %v", at, from, err)
			}
		}
	}
}

// TestIPv6: any family towards the client, any towards the VM.
func TestIPv6(t *testing.T) {
	r := relayed(t, Limits{})
	for _, target := range []string{"127.0.0.1:0", "[::1]:0"} {
		o := to(vm(t, target, echo))
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			l := served(t, r, address, o)
			dialed(t, l.Addr()).ask(target + address)
			l.Close()
			sessionsOf(l)[0].Abort("done")
		}
	}
}

// TestSessionKnowsItsAddresses: what the PROXY header and the log say.
func TestSessionKnowsItsAddresses(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	told := make(chan [2]netip.AddrPort, 1)
	o.choose = func(_ context.Context, s *Session) error {
		told <- [2]netip.AddrPort{s.Client(), s.Local()}
		return nil
	}
	r := relayed(t, Limits{})
	for _, address := range []string{":0", "127.0.0.1:0"} {
		at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), served(t, r, address, o).Addr().Port())
		c := dialed(t, at)
		c.ask("x")
		if got := <-told; got[0] != addrOf(c.UDPConn) || got[1] != at {
			t.Errorf("%s: %v, want %v and %v", address, got, addrOf(c.UDPConn), at)
		}
	}
}

// TestHeader goes before the first datagram of a session and no other.
func TestHeader(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	o.target.Header = []byte("PROXY ")
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	for range 2 {
		c := dialed(t, l.Addr())
		c.say("one")
		c.hear("PROXY one")
		c.ask("two")
	}
}

// TestClosedPort: an ICMP message ends the session and tells whoever chose the
// VM; the client's next datagram begins another session.
func TestClosedPort(t *testing.T) {
	gone := packets(t, "127.0.0.1:0")
	o := to(addrOf(gone))
	gone.Close()
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	c.say("anybody?")
	got := result(t, o)
	if got.Side != message.VMSide || got.Reason != "refused" || got.Up != (Traffic{8, 1}) {
		t.Errorf("ended %+v", got)
	}
	if err := <-o.refused; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	}
	vm(t, o.target.VM.String(), echo)
	c.ask("now?")
}

// TestResult counts what went both ways.
func TestResult(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", func(b []byte) []byte { return append(b, b...) }))
	sessions := make(chan *Session, 1)
	o.choose = func(_ context.Context, s *Session) error {
		sessions <- s
		return nil
	}
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	for range 3 {
		c.say("abc")
		c.hear("abcabc")
	}
	s := <-sessions
	s.Abort("test")
	s.Abort("again")
	want := Result{Up: Traffic{9, 3}, Down: Traffic{18, 3}, Side: message.UsherSide, Reason: "test"}
	if got := result(t, o); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestHeldWhileOpening: what comes before the VM is known is sent to it in
// order, as far as it is held.
func TestHeldWhileOpening(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	known := make(chan struct{})
	o.choose = func(ctx context.Context, _ *Session) error {
		<-known
		return nil
	}
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c, sent := dialed(t, l.Addr()), 40
	for i := range sent {
		c.say(strconv.Itoa(i))
	}
	probe := dialed(t, l.Addr()) // one socket keeps the order: its session comes after all of those
	probe.say("x")
	eventually(t, "a second session", func() bool { return l.Sessions() == 2 })
	close(known)
	for i := range heldDatagrams {
		c.hear(strconv.Itoa(i))
	}
	c.ask("later")
}

// TestOpeningFails: no VM, no session, and the next datagram tries again.
func TestOpeningFails(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	o.choose = func(context.Context, *Session) error {
		if o.opened.Load() == 1 {
			return errors.New("no VM")
		}
		return nil
	}
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	c.say("first")
	eventually(t, "the end of the session", func() bool { return o.opened.Load() == 1 && l.Sessions() == 0 })
	c.ask("second")
}

// TestAbortWhileOpening ends what the opener waits for.
func TestAbortWhileOpening(t *testing.T) {
	o := to(netip.MustParseAddrPort("127.0.0.1:9"))
	sessions, waited := make(chan *Session, 1), make(chan error, 1)
	o.choose = func(ctx context.Context, s *Session) error {
		sessions <- s
		<-ctx.Done()
		waited <- ctx.Err()
		return nil // the target was chosen all the same, and must hear of the end
	}
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	dialed(t, l.Addr()).say("x")
	(<-sessions).Abort("changed")
	<-waited
	if got := result(t, o); got.Reason != "changed" || l.Sessions() != 0 {
		t.Errorf("%+v, %d sessions", got, l.Sessions())
	}
}

// TestIdle: a session ends when nothing comes, and not before.
func TestIdle(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	o.target.Idle = time.Second
	l := served(t, relayed(t, Limits{}), "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	for range 6 { // longer than the idle time in all
		c.ask("x")
		<-time.After(350 * time.Millisecond)
	}
	if l.Sessions() != 1 || o.opened.Load() != 1 {
		t.Errorf("%d sessions, %d opened", l.Sessions(), o.opened.Load())
	}
	begin := time.Now()
	if got := result(t, o); got.Reason != "idle" {
		t.Errorf("%+v", got)
	}
	if d := time.Since(begin); d < 300*time.Millisecond || d > 5*time.Second {
		t.Errorf("ended after %v", d)
	}
}

// TestCloseAndReopen: a listener that closes lets its sessions go on, takes no
// new ones, and can be taken up again.
func TestCloseAndReopen(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	r := relayed(t, Limits{})
	first := packets(t, "127.0.0.1:0")
	address := addrOf(first).String()
	first.Close()
	l := served(t, r, address, o)
	if _, err := r.Listen(address); err == nil {
		t.Error("the same address is open twice")
	}
	c := dialed(t, l.Addr())
	c.ask("open")
	l.Close()
	c.ask("closing")
	stranger := dialed(t, l.Addr())
	stranger.say("lost")
	c.ask("after the stranger")
	if l.Sessions() != 1 {
		t.Errorf("%d sessions", l.Sessions())
	}
	again := served(t, r, address, o)
	stranger.ask("found")
	again.Close()
	for _, s := range sessionsOf(l) {
		s.Abort("drain")
	}
	if _, err := stranger.Write([]byte("x")); err == nil { // the kernel tells of a closed port
		eventually(t, "a closed port", func() bool { _, err := stranger.Write([]byte("x")); return err != nil })
	}
	served(t, r, address, o)
	dialed(t, l.Addr()).ask("new")
}

func sessionsOf(l *Listener) (all []*Session) {
	l.relay.mu.Lock()
	defer l.relay.mu.Unlock()
	for _, s := range l.sessions {
		all = append(all, s)
	}
	return all
}

// TestDrain: no new sessions, quiet ones end.
func TestDrain(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	r := relayed(t, Limits{})
	r.mu.Lock()
	r.quiet = time.Second
	r.mu.Unlock()
	l := served(t, r, "127.0.0.1:0", o)
	c := dialed(t, l.Addr())
	c.ask("x")
	r.Drain()
	dialed(t, l.Addr()).say("lost")
	c.ask("still")
	begin := time.Now()
	if got := result(t, o); got.Reason != "idle" || o.opened.Load() != 1 {
		t.Errorf("%+v, %d opened", got, o.opened.Load())
	}
	if d := time.Since(begin); d < time.Second/2 || d > 5*time.Second {
		t.Errorf("a quiet session ended after %v", d)
	}
	select {
	case <-r.Drained():
	case <-time.After(patience):
		t.Error("not drained")
	}
}

// TestEndOfTheRelay tells every session.
func TestEndOfTheRelay(t *testing.T) {
	r, err := New(Limits{}, netip.Addr.IsLoopback)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	o := to(vm(t, "127.0.0.1:0", echo))
	l := served(t, r, "127.0.0.1:0", o)
	dialed(t, l.Addr()).ask("x")
	waiting := to(netip.MustParseAddrPort("127.0.0.1:9"))
	waiting.choose = func(ctx context.Context, _ *Session) error {
		<-ctx.Done()
		return ctx.Err()
	}
	dialed(t, served(t, r, "127.0.0.2:0", waiting).Addr()).say("x")
	eventually(t, "an opening session", func() bool { return waiting.opened.Load() == 1 })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := result(t, o); got.Reason != "drain" || r.Sessions() != 0 {
		t.Errorf("%+v, %d sessions", got, r.Sessions())
	}
}

// TestForgedAsOurOwn: a datagram that seems to come from a listener is dropped,
// or its answer would be the next question.
func TestForgedAsOurOwn(t *testing.T) {
	o := to(vm(t, "127.0.0.1:0", echo))
	r := relayed(t, Limits{})
	one, wild := served(t, r, "127.0.0.1:0", o), served(t, r, ":0", o)
	for _, l := range []*Listener{one, wild} {
		for _, from := range []*Listener{one, wild} {
			to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port())
			sa, _, err := socket.Sockaddr(to)
			if err != nil {
				t.Fatal(err)
			}
			if from.family == unix.AF_INET6 {
				sa = &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
			}
			if err := unix.Sendto(from.fd, []byte("forged"), 0, sa); err != nil {
				t.Fatal(err)
			}
		}
		dialed(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.Addr().Port())).ask("real") // comes after
	}
	if n := o.opened.Load(); n != 2 {
		t.Errorf("%d sessions were begun", n)
	}
	if !r.Owns(one.Addr()) || r.Owns(netip.MustParseAddrPort("192.0.2.1:"+strconv.Itoa(int(wild.Addr().Port())))) {
		t.Error("own addresses are not known")
	}
}

// TestListenFails says what was to be listened on.
func TestListenFails(t *testing.T) {
	r := relayed(t, Limits{})
	taken := addrOf(packets(t, "127.0.0.1:0")).String()
	for _, address := range []string{"", "nonsense", taken, "192.0.2.1:5353"} {
		if l, err := r.Listen(address); err == nil || !strings.Contains(err.Error(), strconv.Quote(address)) {
			t.Errorf("%q: %v, %v", address, l, err)
		}
	}
}
