package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// forward is a body with one forwarding site for each host and VM.
func forward(pairs ...string) string {
	body := "[defaults]\nhttp = \"forward\"\n[sites]\n"
	for i := 0; i < len(pairs); i += 2 {
		body += fmt.Sprintf("%q = \"http://%s\"\n", pairs[i], pairs[i+1])
	}
	return body
}

// serves reports whether a host is answered with a body.
func serves(u *rig.Usher, host, want string) bool {
	return string(u.Dial().Get(host, "/").Body) == want
}

// within is how soon a saved file must be live.
const within = 2*time.Second + 500*time.Millisecond // the contract's, and time to ask

// TestSaving: every way in which editors and orchestrators save a file is
// noticed within two seconds.
func TestSaving(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	write := func(t *testing.T, path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, save := range map[string]func(*testing.T, *rig.Usher, string){
		"rename": func(t *testing.T, u *rig.Usher, text string) { peer.Replace(t, u.File, []byte(text)) },
		"in place": func(t *testing.T, u *rig.Usher, text string) { // as through a single-file bind mount: the inode stays
			write(t, u.File, text)
		},
		"in pieces": func(t *testing.T, u *rig.Usher, text string) {
			f, err := os.Create(u.File)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(text); i += 100 {
				f.WriteString(text[i:min(i+100, len(text))])
				<-time.After(10 * time.Millisecond)
			}
			f.Close()
		},
		"removed and written anew": func(t *testing.T, u *rig.Usher, text string) {
			os.Remove(u.File)
			<-time.After(300 * time.Millisecond)
			write(t, u.File, text)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := builds.Start(t, rig.Config{Body: forward("aaaa.test", one.Addr)})
			for i, vm := range []*peer.VM{two, one, two} {
				want := map[*peer.VM]string{one: "one", two: "two"}[vm]
				save(t, u, u.Text(forward("aaaa.test", vm.Addr)))
				rig.EventuallyWithin(t, within, fmt.Sprintf("save %d is live", i), func() bool { return serves(u, "aaaa.test", want) })
			}
		})
	}
}

// TestSavingThroughSymlink: a directory of which a symlink is swapped, as
// Kubernetes mounts a ConfigMap.
func TestSavingThroughSymlink(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	u := builds.Prepare(t, rig.Config{Body: forward("aaaa.test", one.Addr)})
	dir := u.Dir
	version := func(n int, vm *peer.VM) {
		t.Helper()
		v := filepath.Join(dir, fmt.Sprintf("..v%d", n))
		if err := os.Mkdir(v, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(v, "config.toml"), []byte(u.Text(forward("aaaa.test", vm.Addr))), 0o644); err != nil {
			t.Fatal(err)
		}
		os.Symlink(v, filepath.Join(dir, "..new"))
		if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	version(1, one)
	os.Remove(u.File)
	if err := os.Symlink(filepath.Join("..data", "config.toml"), u.File); err != nil {
		t.Fatal(err)
	}
	u.Run()
	u.WaitReady()
	for i, vm := range []*peer.VM{two, one} {
		version(i+2, vm)
		rig.EventuallyWithin(t, within, "the swapped file is live", func() bool {
			return serves(u, "aaaa.test", map[*peer.VM]string{one: "one", two: "two"}[vm])
		})
	}
}

// TestSavingHalf: a file that is still being written is not taken, and what
// was served goes on being served.
func TestSavingHalf(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", one.Addr)})
	text := u.Text(forward("aaaa.test", two.Addr))
	cut := strings.Index(text, "aaaa.test") + 5
	if err := os.WriteFile(u.File, []byte(text[:cut]), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if !serves(u, "aaaa.test", "one") {
			t.Fatal("a half file took effect")
		}
		<-time.After(100 * time.Millisecond)
	}
	if err := os.WriteFile(u.File, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	rig.EventuallyWithin(t, within, "the whole file is live", func() bool { return serves(u, "aaaa.test", "two") })
}

// TestReloadWays: SIGHUP and the command; the command says what changed.
func TestReloadWays(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", one.Addr)})
	kept := u.Dial()
	kept.Get("aaaa.test", "/")
	if out := u.Reload(forward("aaaa.test", two.Addr, "bbbb.test", one.Addr)); !strings.Contains(out, "bbbb.test") {
		t.Errorf("reload said %q", out)
	}
	if got := string(kept.Get("aaaa.test", "/").Body); got != "two" {
		t.Errorf("an old connection is served by generation of %q", got)
	}
	u.Write(t, forward("aaaa.test", one.Addr))
	u.Signal(syscall.SIGHUP)
	rig.Eventually(t, "SIGHUP took effect", func() bool { return string(kept.Get("aaaa.test", "/").Body) == "one" })
	if p := kept.Get("bbbb.test", "/"); p.Status != 404 {
		t.Errorf("a removed site: %d", p.Status)
	}
}

// TestIncludes: sites from more files, relative to the first, that come and
// go.
func TestIncludes(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	u := builds.Prepare(t, rig.Config{Top: `include = ["sites.d/*.toml"]`, Body: forward("aaaa.test", one.Addr)})
	dir := filepath.Join(u.Dir, "sites.d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	more := func(name, text string) { peer.Replace(t, filepath.Join(dir, name), []byte(text)) }
	more("b.toml", fmt.Sprintf("[sites]\n\"bbbb.test\" = \"http://%s\"\n", two.Addr))
	u.Run()
	u.WaitReady()
	if !serves(u, "aaaa.test", "one") || !serves(u, "bbbb.test", "two") {
		t.Error("an included site is not served")
	}
	more("b.toml", fmt.Sprintf("[sites]\n\"bbbb.test\" = \"http://%s\"\n", one.Addr))
	rig.EventuallyWithin(t, within, "changed include", func() bool { return serves(u, "bbbb.test", "one") })
	more("c.toml", fmt.Sprintf("[vms]\nnew = %q\n[sites]\n\"cccc.test\" = \"http://new:%d\"\n", "127.0.0.1", rig.Port(two.Addr)))
	rig.EventuallyWithin(t, within, "new include", func() bool { return serves(u, "cccc.test", "two") })
	os.Remove(filepath.Join(dir, "c.toml"))
	rig.EventuallyWithin(t, within, "removed include", func() bool { return u.Dial().Get("cccc.test", "/").Status == 404 })
}

// TestSurvivors: tunnels and WebSockets of sites that did not change live
// through reloads; so do those of a changed site whose backend stayed.
func TestSurvivors(t *testing.T) {
	t.Parallel()
	vm, sockets, other := peer.Listen(t, peer.Mirror), socketVM(t), peer.Listen(t, peer.Name("other"))
	body := func(extra string) string {
		return fmt.Sprintf(`[sites."sock.test"]
to = %q
http = "forward"
[sites."pass.test"]
to = "passthrough://%s"
%s`, sockets.URL, vm.Addr, extra)
	}
	u := builds.Start(t, rig.Config{Body: body("")})
	hello := string(rig.Hello(t, &tls.Config{ServerName: "pass.test"}))
	tunnel, socket := peer.Dial(t, u.HTTPS), dialSocket(t, u, "wss", "sock.test")
	tunnel.Send(hello)
	tunnel.WantExact(hello)
	for i := range 5 {
		u.Reload(body(fmt.Sprintf("[sites.\"new%d.test\"]\nto = \"http://%s\"", i, other.Addr)))
		tunnel.Send("ping")
		tunnel.WantExact("ping")
		echo(t, socket, "ping")
	}
	u.Reload(body("http_port = 8081")) // the site changed, its backend did not
	tunnel.Send("ping")
	tunnel.WantExact("ping")
}

// TestRemovedSite: its tunnels get the drain time, and no more.
func TestRemovedSite(t *testing.T) {
	t.Parallel()
	vm, sockets := peer.Listen(t, peer.Mirror), socketVM(t)
	top := "[timeouts]\ndrain = \"2s\"\n"
	u := builds.Start(t, rig.Config{Body: top + fmt.Sprintf(`[sites]
"pass.test" = "passthrough://%s"
"sock.test" = %q
"stay.test" = "passthrough://%s"`, vm.Addr, sockets.URL, vm.Addr)})
	open := func(host string) *peer.Client {
		c, hello := peer.Dial(t, u.HTTPS), string(rig.Hello(t, &tls.Config{ServerName: host}))
		c.Send(hello)
		c.WantExact(hello)
		return c
	}
	leaving, staying, socket := open("pass.test"), open("stay.test"), dialSocket(t, u, "wss", "sock.test")
	begin := time.Now()
	u.Reload(top + fmt.Sprintf("[sites]\n\"stay.test\" = \"passthrough://%s\"", vm.Addr))
	leaving.Send("still")
	leaving.WantExact("still")
	if rest, err := leaving.Rest(peer.Patience); isTimeout(err) || len(rest) > 0 {
		t.Errorf("the tunnel of a removed site: %v, %q", err, rest)
	}
	if d := time.Since(begin); d < 2*time.Second || d > 8*time.Second {
		t.Errorf("it ended after %v", d)
	}
	if _, _, err := socket.Read(t.Context()); err == nil {
		t.Error("the WebSocket of a removed site lives")
	}
	staying.Send("here")
	staying.WantExact("here")
	if alert := u.Alert(&tls.Config{ServerName: "pass.test"}); alert != alertUnrecognizedName {
		t.Errorf("alert %d for a removed site", alert)
	}
}
