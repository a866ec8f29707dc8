package e2e

import (
	"crypto/tls"
	"io"
	"math/rand"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestPassthrough: the VM's own certificate reaches the client, and every byte
// is left alone, the ClientHello included.
func TestPassthrough(t *testing.T) {
	t.Parallel()
	ca := peer.NewCA(t)
	secure, raw := peer.ListenTLS(t, ca.Server("own.test"), peer.Name("secure")), peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"own.test" = "passthrough://%s"
"raw.test" = "passthrough://%s"`, secure.Addr, raw.Addr)

	c := u.TLSWith(&tls.Config{ServerName: "own.test", RootCAs: ca.Pool})
	if got := string(c.Get("own.test", "/").Body); got != "secure" {
		t.Errorf("answered by %q", got)
	}

	hello := string(rig.Hello(t, &tls.Config{ServerName: "raw.test"}))
	noise := make([]byte, 3<<20) // enough for every way of copying
	rand.New(rand.NewSource(1)).Read(noise)
	r := peer.Dial(t, u.HTTPS)
	go r.Try(hello + string(noise))
	r.WantExact(hello + string(noise))
}

// TestPassthroughHalfClose: each direction ends on its own.
func TestPassthroughHalfClose(t *testing.T) {
	t.Parallel()
	hello := string(rig.Hello(t, &tls.Config{ServerName: "half.test"}))
	late := make(chan string, 1)
	vm := peer.Listen(t, func(l *peer.Link) {
		if l.N == 1 { // the client ends first
			all, _ := io.ReadAll(l.R)
			l.Say("heard " + string(all[len(hello):]))
			return
		}
		l.Say("bye")
		l.Conn.(interface{ CloseWrite() error }).CloseWrite()
		all, _ := io.ReadAll(l.R)
		late <- string(all[len(hello):])
	})
	u := start(t, `[sites]
"half.test" = "passthrough://%s"`, vm.Addr)

	c := peer.Dial(t, u.HTTPS)
	c.Send(hello + "you")
	c.HalfClose()
	c.WantExact("heard you")
	c.WantClosed(peer.Patience)

	c = peer.Dial(t, u.HTTPS)
	c.Send(hello)
	c.WantExact("bye")
	c.WantClosed(peer.Patience) // the VM's direction only
	c.Send("still here")
	c.HalfClose()
	if got := <-late; got != "still here" {
		t.Errorf("after its own end the VM read %q", got)
	}
}

// TestPassthroughVMGoes: whichever end goes, the other one hears of it.
func TestPassthroughVMGoes(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Silent)
	u := start(t, `[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	hello := string(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))
	first, second := peer.Dial(t, u.HTTPS), peer.Dial(t, u.HTTPS)
	first.Send(hello)
	second.Send(hello)
	vm.WaitOpen(2)
	first.Close()
	vm.WaitOpen(1)
	vm.Down()
	if _, err := second.Rest(peer.Patience); isTimeout(err) {
		t.Error("the client was not told that its VM went")
	}
}

// TestPassthroughHold: a VM that restarts is waited for, one that stays away
// ends in internal_error.
func TestPassthroughHold(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[timeouts]
hold = "3s"
[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	hello := string(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))

	vm.Down()
	c := peer.Dial(t, u.HTTPS)
	c.Send(hello)
	<-time.After(time.Second) // the length of the outage
	vm.Up()
	c.WantExact(hello)

	vm.Down()
	begin := time.Now()
	c = peer.Dial(t, u.HTTPS)
	c.Send(hello)
	wantAlert(t, c, "VM away", alertInternalError)
	if d := time.Since(begin); d < 2*time.Second || d > 8*time.Second {
		t.Errorf("gave up after %v", d)
	}
}

// TestPassthroughBalance: several VMs share the tunnels, and a dead one among
// them is nobody's problem.
func TestPassthroughBalance(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Mirror), peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"aaaa.test" = ["passthrough://%s", "passthrough://%s"]`, one.Addr, two.Addr)
	hello := string(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))
	tunnels := func(n int) {
		for range n {
			c := peer.Dial(t, u.HTTPS)
			c.Send(hello)
			c.WantExact(hello)
			c.Close()
		}
	}
	tunnels(20)
	if one.Accepted() == 0 || two.Accepted() == 0 {
		t.Errorf("%d tunnels to one VM, %d to the other", one.Accepted(), two.Accepted())
	}
	two.Down()
	tunnels(20)
}

// TestPassthroughIdle: a tunnel without a byte ends after its idle time.
func TestPassthroughIdle(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[timeouts]
tunnel_idle = "5s"
[sites]
"aaaa.test" = "passthrough://%s"`, vm.Addr)
	c := peer.Dial(t, u.HTTPS)
	hello := string(rig.Hello(t, &tls.Config{ServerName: "aaaa.test"}))
	c.Send(hello)
	c.WantExact(hello)
	for range 4 { // bytes keep it alive beyond its idle time
		<-time.After(1500 * time.Millisecond)
		c.Send("x")
		c.WantExact("x")
	}
	begin := rig.Now()
	c.Rest(peer.Patience)
	if d := time.Since(begin.Time); d < 3*time.Second || begin.Took() > 10*time.Second {
		t.Errorf("an idle tunnel ended after %v", d)
	}
	vm.WaitOpen(0)
}

// TestPassthroughProxyHeader: the VM learns the client's address when the site
// asks for it, before the first byte of the hello.
func TestPassthroughProxyHeader(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[sites."v1.test"]
to = "passthrough://%[1]s"
proxy_protocol = "v1"
[sites."v2.test"]
to = "passthrough://%[1]s"
proxy_protocol = "v2"`, vm.Addr)
	for _, version := range []string{"v1", "v2"} {
		hello := string(rig.Hello(t, &tls.Config{ServerName: version + ".test"}))
		c := peer.DialFrom(t, "127.0.0.77", u.HTTPS)
		c.Send(hello)
		src, dst := wantProxyHeader(t, c.R, version)
		if src != c.LocalAddr().String() || dst != u.HTTPS {
			t.Errorf("%s: from %s to %s, want from %s to %s", version, src, dst, c.LocalAddr(), u.HTTPS)
		}
		c.WantExact(hello)
	}
}

// TestPassthroughIPv6: any family towards the client, any towards the VM.
func TestPassthroughIPv6(t *testing.T) {
	t.Parallel()
	v4, v6 := peer.Listen(t, peer.Mirror), peer.ListenAt(t, "[::1]:0", peer.Mirror)
	u := builds.Start(t, rig.Config{IPv6: true, Body: `[sites]
"four.test" = "passthrough://` + v4.Addr + `"
"six.test" = "passthrough://` + v6.Addr + `"`})
	for _, listener := range []string{u.HTTPS, u.HTTPS6} {
		for _, host := range []string{"four.test", "six.test"} {
			c, hello := peer.Dial(t, listener), string(rig.Hello(t, &tls.Config{ServerName: host}))
			c.Send(hello)
			c.WantExact(hello)
		}
	}
}

// TestPassthroughToItself: a site that would be a loop is a fault of the site.
func TestPassthroughToItself(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Mirror)
	u := start(t, `[sites]
"good.test" = "passthrough://%s"`, vm.Addr)
	u.Write(t, `[sites]
"good.test" = "passthrough://`+vm.Addr+`"
"loop.test" = "passthrough://`+u.HTTPS+`"`)
	u.CLI("reload")
	if sites, _, _ := u.CLI("sites"); !strings.Contains(sites, "faulty") {
		t.Errorf("usher sites does not see the loop: %s", sites)
	}
	if alert := u.Alert(&tls.Config{ServerName: "loop.test"}); alert != alertInternalError {
		t.Errorf("loop: alert %d", alert)
	}
	c, hello := peer.Dial(t, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: "good.test"}))
	c.Send(hello)
	c.WantExact(hello)
}
