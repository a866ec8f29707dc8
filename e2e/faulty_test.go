package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestWholeFileRefused: faults of the file as a whole change nothing, are said
// with their place, and are listed by check all at once.
func TestWholeFileRefused(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	good := forward("aaaa.test", one.Addr)
	u := builds.Start(t, rig.Config{Body: good})
	for name, c := range map[string]struct{ body, say string }{
		"syntax":          {"[sites\n\"aaaa.test\" = \"http://" + two.Addr + "\"", "config.toml:"},
		"unknown key":     {forward("aaaa.test", two.Addr) + "\n[timeouts]\nconect = \"3s\"", "connect"},
		"unknown table":   {forward("aaaa.test", two.Addr) + "\n[sties]\nx = 1", "sites"},
		"duplicate host":  {forward("aaaa.test", two.Addr, "AAAA.test", two.Addr), "aaaa.test"},
		"unquoted host":   {"[sites]\naaaa.test = \"http://" + two.Addr + "\"", "quote"},
		"wrong type":      {forward("aaaa.test", two.Addr) + "\n[timeouts]\nconnect = 3", "connect"},
		"key of one site": {forward("bbbb.test", two.Addr) + "\n[sites.\"aaaa.test\"]\nto = \"http://" + two.Addr + "\"\nhttpp = \"forward\"", "http"},
	} {
		said := u.Refused(c.body)
		if !strings.Contains(said, c.say) {
			t.Errorf("%s: reload said %q, nothing of %q", name, said, c.say)
		}
		out, errs, code := u.CLI("check")
		if code != 1 || !strings.Contains(out+errs, u.File+":") || !strings.Contains(out+errs, c.say) {
			t.Errorf("%s: check ended with %d: %s%s", name, code, out, errs)
		}
		if !serves(u, "aaaa.test", "one") {
			t.Errorf("%s: took effect", name)
		}
		if status, _, _ := u.CLI("status"); !strings.Contains(strings.ToLower(status), "refus") {
			t.Errorf("%s: status is silent: %s", name, status)
		}
	}
	u.Reload(good + fmt.Sprintf("\"bbbb.test\" = \"http://%s\"\n", two.Addr))
	if !serves(u, "bbbb.test", "two") {
		t.Error("a good file after faulty ones is not served")
	}
	if status, _, _ := u.CLI("status"); strings.Contains(strings.ToLower(status), "refused:") {
		t.Errorf("status still speaks of the refusal: %s", status)
	}
}

// TestCheckSaysAll: one run names every problem, each with file, line and
// column.
func TestCheckSaysAll(t *testing.T) {
	t.Parallel()
	u := builds.Prepare(t, rig.Config{Body: `[timeouts]
conect = "3s"
hold = "soon"
[sites]
"aaaa.test" = "gopher://10.0.0.1"
"AAAA.test." = "http://10.0.0.1"
"bbbb.test" = ["passthrough://10.0.0.1", "http://10.0.0.2"]
"*.wild.example" = "http://10.0.0.1"
[sites."file.test"]
to = "http://10.0.0.1"
certificate = { cert = "none.pem", key = "none.key" }`})
	said, _, code := u.CLI("check")
	if code != 1 {
		t.Errorf("exit status %d", code)
	}
	for _, word := range []string{"conect", "hold", "gopher", "aaaa.test", "passthrough", "DNS-01", "none.pem"} {
		if !strings.Contains(said, word) {
			t.Errorf("nothing of %q in\n%s", word, said)
		}
	}
	place := regexp.MustCompile(`^` + regexp.QuoteMeta(u.File) + `:[1-9][0-9]*:[1-9][0-9]*: .`)
	for l := range strings.Lines(said) {
		if !place.MatchString(l) {
			t.Errorf("no place in %q", l)
		}
	}
	if n := strings.Count(said, "\n"); n != 7 {
		t.Errorf("%d problems, want 7", n)
	}
	u.Write(t, `[sites]
"aaaa.test" = "http://10.0.0.1"`)
	if out, errs, code := u.CLI("check"); code != 0 {
		t.Errorf("a good file: %d %s%s", code, out, errs)
	}
}

// TestQuarantine: one site's fault is that site's alone.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	one, two := peer.Listen(t, peer.Name("one")), peer.Listen(t, peer.Name("two"))
	ca, dir := peer.NewCA(t), t.TempDir()
	cert, key := ca.Write(dir, "live", "live.test")
	site := func(cert string) string {
		return fmt.Sprintf("[sites.\"live.test\"]\nto = \"http://%s\"\nhttp = \"forward\"\ncertificate = { cert = %q, key = %q }\n", one.Addr, cert, key)
	}
	u := builds.Start(t, rig.Config{Body: site(cert)})
	u.Write(t, site(filepath.Join(dir, "gone.pem"))+fmt.Sprintf(`[sites."new.test"]
to = "http://%[1]s"
http = "forward"
certificate = { cert = "%[2]s/gone.pem", key = "%[2]s/gone.key" }
[sites."addr.test"]
to = "http://300.1.2.3:x"
[sites."fine.test"]
to = "http://%[3]s"
http = "forward"
`, one.Addr, dir, two.Addr))
	if _, errs, code := u.CLI("reload"); code != 0 {
		t.Fatalf("the whole file was refused: %s", errs)
	}
	if !serves(u, "fine.test", "two") {
		t.Error("the site beside the faulty ones is not served")
	}
	if !serves(u, "live.test", "one") {
		t.Error("the site that was live is not served in its last good form")
	}
	c := u.TLSWith(&tls.Config{ServerName: "live.test", RootCAs: ca.Pool})
	if got := string(c.Get("live.test", "/").Body); got != "one" {
		t.Errorf("nor over TLS: %q", got)
	}
	for _, host := range []string{"new.test", "addr.test"} {
		if p := u.Dial().Get(host, "/"); p.Status != 503 {
			t.Errorf("%s: %d", host, p.Status)
		}
	}
	if alert := u.Alert(&tls.Config{ServerName: "new.test"}); alert != alertInternalError {
		t.Errorf("new.test without a certificate: alert %d", alert)
	}
	sites, _, _ := u.CLI("sites")
	if !strings.Contains(sites, "stale") || !strings.Contains(sites, "live.test") {
		t.Errorf("usher sites says nothing of a stale site:\n%s", sites)
	}
	u.Reload(site(cert))
	if sites, _, _ := u.CLI("sites"); strings.Contains(sites, "stale") {
		t.Errorf("still stale after the fault was mended:\n%s", sites)
	}
}

// TestLostSites: a file that suddenly holds few sites, or none, is taken for
// half-written until somebody insists.
func TestLostSites(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	var pairs []string
	for i := range 12 {
		pairs = append(pairs, fmt.Sprintf("s%02d.test", i), vm.Addr)
	}
	u := builds.Start(t, rig.Config{Body: forward(pairs...)})
	for name, body := range map[string]string{"none": "[sites]\n", "empty": "", "five of twelve": forward(pairs[:10]...)} {
		if said := u.Refused(body); !strings.Contains(said, "--force") {
			t.Errorf("%s: refusal does not say what to do: %q", name, said)
		}
		if !serves(u, "s11.test", "vm") {
			t.Errorf("%s: took effect", name)
		}
	}
	u.Reload(forward(pairs[:14]...)) // seven of twelve are not half
	u.Write(t, forward(pairs[:2]...))
	if out, errs, code := u.CLI("reload", "--force"); code != 0 {
		t.Fatalf("--force: %s%s", out, errs)
	}
	if s := u.Dial().Get("s06.test", "/").Status; s != 404 {
		t.Errorf("after --force a lost site answers %d", s)
	}
}

// TestCannotStart: a faulty file or a taken port ends the start with 1 and one
// clear line.
func TestCannotStart(t *testing.T) {
	t.Parallel()
	t.Run("faulty file", func(t *testing.T) {
		u := builds.Prepare(t, rig.Config{Body: "[sites]\n\"aaaa.test\" = \"http://10.0.0.1\"\n[nonsense]\nx = 1"})
		u.Run()
		if code := u.Exit(peer.Patience); code != 1 {
			t.Errorf("exit status %d", code)
		}
		wantClear(t, u, "nonsense")
	})
	t.Run("no file", func(t *testing.T) {
		u := builds.Prepare(t, rig.Config{})
		os.Remove(u.File)
		u.Run()
		if code := u.Exit(peer.Patience); code != 1 {
			t.Errorf("exit status %d", code)
		}
		wantClear(t, u, u.File)
	})
	t.Run("port taken", func(t *testing.T) {
		u := builds.Prepare(t, rig.Config{Body: "[sites]\n\"aaaa.test\" = \"http://10.0.0.1\""})
		l, err := net.Listen("tcp", u.HTTPS)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		u.Run()
		if code := u.Exit(peer.Patience); code != 1 {
			t.Errorf("exit status %d", code)
		}
		wantClear(t, u, u.HTTPS)
	})
	t.Run("wrong usage", func(t *testing.T) {
		u := builds.Prepare(t, rig.Config{})
		for _, args := range [][]string{{"nonsense"}, {"run", "--nonsense"}, {"explain"}} {
			if _, errs, code := u.CLI(args...); code != 2 || errs == "" {
				t.Errorf("%v: %d %q", args, code, errs)
			}
		}
	})
}

// wantClear looks for a word in what was said, and for no stack trace.
func wantClear(t *testing.T, u *rig.Usher, word string) {
	t.Helper()
	if said := u.Log.String(); !strings.Contains(said, word) || strings.Contains(said, "goroutine ") {
		t.Errorf("nothing of %q, or a stack trace, in %q", word, said)
	}
}

// TestListenerCannotOpen: a reload that needs a port which is taken is refused
// whole.
func TestListenerCannotOpen(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr)})
	taken, err := net.Listen("tcp", u.IP+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	text := strings.Replace(u.Text(forward("bbbb.test", vm.Addr)), u.HTTPS, taken.Addr().String(), 1)
	peer.Replace(t, u.File, []byte(text))
	_, errs, code := u.CLI("reload")
	if code != 1 || !strings.Contains(errs, taken.Addr().String()) {
		t.Errorf("%d %q", code, errs)
	}
	if !serves(u, "aaaa.test", "vm") {
		t.Error("the running generation was lost")
	}
}

// TestMovedListener: a reload may open and close listeners.
func TestMovedListener(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Name("vm"))
	u := builds.Start(t, rig.Config{Body: forward("aaaa.test", vm.Addr)})
	kept, old, moved := u.Dial(), u.HTTP, rig.FreePort(t, u.IP)
	kept.Get("aaaa.test", "/")
	u.HTTP = moved
	u.Reload(forward("aaaa.test", vm.Addr))
	if !serves(u, "aaaa.test", "vm") {
		t.Error("the new listener does not serve")
	}
	if string(kept.Get("aaaa.test", "/").Body) != "vm" {
		t.Error("a connection of the old listener was cut")
	}
	rig.Eventually(t, "the old listener is closed", func() bool {
		c, err := net.Dial("tcp", old)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}
