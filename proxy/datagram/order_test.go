package datagram

import (
	"context"
	"net/netip"
	"testing"
)

// TestOldestFreshSessionGoesFirst: a flood of forged sources does not displace
// those who talk to each other.
func TestOldestFreshSessionGoesFirst(t *testing.T) {
	answering := vm(t, "127.0.0.1:0", echo)
	r := relayed(t, Limits{Sessions: 4})
	o := to(answering)
	l := served(t, r, "127.0.0.1:0", o)
	two := []client{dialed(t, l.Addr()), dialed(t, l.Addr())}
	for range 2 {
		for _, c := range two {
			c.ask("assured")
		}
	}
	mute := to(vm(t, "127.0.0.1:0", silent))
	flooded := served(t, r, "127.0.0.2:0", mute)
	for i := range 50 {
		dialed(t, flooded.Addr()).say("forged")
		eventually(t, "the session", func() bool { return mute.opened.Load() == int64(i+1) })
	}
	for _, c := range two {
		c.ask("still there")
	}
	if o.opened.Load() != 2 || r.Sessions() != 4 {
		t.Errorf("%d assured sessions were begun, %d are there", o.opened.Load(), r.Sessions())
	}
	if got := result(t, mute); got.Reason != "evicted" {
		t.Errorf("%+v", got)
	}
}

// TestOldestAssuredSessionGoesLast: without fresh ones it is the one that was
// silent for the longest time.
func TestOldestAssuredSessionGoesLast(t *testing.T) {
	r := relayed(t, Limits{Sessions: 2})
	o := to(vm(t, "127.0.0.1:0", echo))
	l := served(t, r, "127.0.0.1:0", o)
	old, young := dialed(t, l.Addr()), dialed(t, l.Addr())
	for range 2 {
		old.ask("x")
		young.ask("x")
	}
	old.ask("y") // now young is the oldest
	dialed(t, l.Addr()).ask("new")
	result(t, o)
	old.ask("z")
	if n := o.opened.Load(); n != 3 {
		t.Errorf("%d sessions were begun", n)
	}
}

// TestClientLimit: one client's sessions make room for each other, not those
// of others.
func TestClientLimit(t *testing.T) {
	r := relayed(t, Limits{PerClient: 2})
	o := to(vm(t, "127.0.0.1:0", echo))
	l := served(t, r, "127.0.0.1:0", o)
	other := dialedFrom(t, "127.0.0.2", l.Addr())
	other.ask("x")
	for range 5 {
		dialedFrom(t, "127.0.0.3", l.Addr()).ask("x")
	}
	other.ask("x")
	if n := r.Sessions(); n != 3 || o.opened.Load() != 6 {
		t.Errorf("%d sessions, %d begun", n, o.opened.Load())
	}
}

// TestOpeningLimit: what waits for its VM is bounded.
func TestOpeningLimit(t *testing.T) {
	r := relayed(t, Limits{Opening: 3})
	o := to(netip.MustParseAddrPort("127.0.0.1:9"))
	o.choose = func(ctx context.Context, _ *Session) error {
		<-ctx.Done()
		return ctx.Err()
	}
	l := served(t, r, "127.0.0.1:0", o)
	for range 10 {
		dialed(t, l.Addr()).say("x")
	}
	eventually(t, "three sessions", func() bool { return o.opened.Load() == 3 })
	// The eleventh datagram comes after the ten others.
	dialed(t, l.Addr()).say("x")
	if n := r.Sessions(); n != 3 || o.opened.Load() != 3 {
		t.Errorf("%d sessions, %d opened", n, o.opened.Load())
	}
}

func TestClientOf(t *testing.T) {
	for ip, want := range map[string]string{
		"192.0.2.7": "192.0.2.7", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::", "fe80::1%3": "fe80::",
	} {
		if got := clientOf(netip.MustParseAddr(ip)); got.String() != want {
			t.Errorf("%s: %s", ip, got)
		}
	}
}
