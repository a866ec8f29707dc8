package tls

import (
	cryptotls "crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
)

func readRoot(t *testing.T, file string) *x509.Certificate {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// Clients that trust the root and nothing else accept every kind of name.
func TestLocalCertificatesAreTrusted(t *testing.T) {
	e := newEdge(t, t.TempDir())
	e.apply(localWant("one.test"), localWant("*.wild.test"), localWant("127.0.0.1"), localWant("*"))
	root := readRoot(t, e.RootFile())
	if life := root.NotAfter.Sub(root.NotBefore); !root.IsCA || life < 9*365*day || life > 11*365*day {
		t.Errorf("root lives %s", life)
	}
	for _, name := range []string{"one.test", "a.wild.test", "127.0.0.1", "guest.example"} {
		state, err := e.dial(&cryptotls.Config{ServerName: name, RootCAs: certPool(root)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if leaf := state.PeerCertificates[0]; time.Until(leaf.NotAfter) > 90*day || leaf.IsCA {
			t.Errorf("%s: until %s", name, leaf.NotAfter)
		}
	}
	for _, file := range []string{e.authority.keyFile(), e.authority.certFile()} {
		if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", file, at.Mode(), err)
		}
	}
	if st := e.statusOf("one.test"); st.State != Valid || st.Issuer != "local CA" || !e.Has("one.test") {
		t.Errorf("%+v", st)
	}
}

func TestTheRootStays(t *testing.T) {
	dir := t.TempDir()
	e := newEdge(t, dir)
	e.apply(localWant("a.test"))
	first := readRoot(t, e.RootFile())
	leaf := e.shownFor("a.test")
	if again := e.shownFor("a.test"); !again.Equal(leaf) {
		t.Error("a new leaf for each handshake")
	}
	e = newEdge(t, dir)
	e.apply(localWant("a.test"))
	if !readRoot(t, e.RootFile()).Equal(first) || e.shownFor("a.test").CheckSignatureFrom(first) != nil {
		t.Error("another root after a restart")
	}
}

func TestHalfARootIsReplaced(t *testing.T) {
	for name, damage := range map[string]func(a *authority) error{
		"no key":       func(a *authority) error { return os.Remove(a.keyFile()) },
		"half a key":   func(a *authority) error { return os.Truncate(a.keyFile(), 60) },
		"half a root":  func(a *authority) error { return os.Truncate(a.certFile(), 100) },
		"empty root":   func(a *authority) error { return os.Truncate(a.certFile(), 0) },
		"not a root":   func(a *authority) error { return os.Rename(a.keyFile(), a.certFile()) },
		"other's key":  func(a *authority) error { return otherKey(a) },
		"it is a leaf": func(a *authority) error { return leafAsRoot(a) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := newEdge(t, dir)
			e.apply(localWant("a.test"))
			if err := damage(e.authority); err != nil {
				t.Fatal(err)
			}
			e = newEdge(t, dir)
			e.apply(localWant("a.test"))
			if _, err := e.dial(&cryptotls.Config{ServerName: "a.test", RootCAs: certPool(readRoot(t, e.RootFile()))}); err != nil {
				t.Error(err)
			}
			if !strings.Contains(e.log.String(), "making a new local CA") {
				t.Error("not said")
			}
		})
	}
}

func otherKey(a *authority) error {
	other := newAuthority(a.dir+"-other", a.locks, zerolog.Nop())
	if err := other.open(); err != nil {
		return err
	}
	return os.Rename(other.keyFile(), a.keyFile())
}

func leafAsRoot(a *authority) error {
	s, err := a.issue("a.test")
	if err != nil {
		return err
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(s.cert.PrivateKey)
	if err := writeFile(a.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})); err != nil {
		return err
	}
	return writeFile(a.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.cert.Certificate[0]}))
}

// A root that cannot be kept is not made: what it signed would be worthless
// after a restart.
func TestRootThatCannotBeKept(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/local-ca", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := newEdge(t, dir)
	e.apply(localWant("a.test"))
	if st := e.statusOf("a.test"); st.State != Failed || st.Reason == "" || e.Has("a.test") || e.shownFor("a.test") != nil {
		t.Errorf("%+v", st)
	}
}

func TestLeavesAndRootsAreReplacedInTime(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		locks := &locks{dir: dir + "/locks"}
		a := newAuthority(dir, locks, zerolog.Nop())
		s := newSite(localWant("a.test"), nil)
		for begun := time.Now(); time.Since(begun) < 11*365*day; time.Sleep(15 * day) {
			now, err := a.show(s)
			if err != nil {
				t.Fatal(err)
			}
			opts := x509.VerifyOptions{Roots: certPool(readRoot(t, a.certFile())), DNSName: "a.test", CurrentTime: time.Now().Add(14 * day)}
			if _, err := now.cert.Leaf.Verify(opts); err != nil {
				t.Fatalf("after %s: %v", time.Since(begun), err)
			}
		}
	})
}

func TestGuestsAreBounded(t *testing.T) {
	g := newGuests(3)
	for i := range 10 {
		g.put(fmt.Sprint(i), &shown{})
		g.get("1")
	}
	if g.order.Len() != 3 || len(g.named) != 3 || g.get("1") == nil || g.get("9") == nil || g.get("2") != nil {
		t.Errorf("%d %v", g.order.Len(), g.named)
	}
}

// The root is named from anywhere: who asks has another working directory. A
// root that was never made is not named.
func TestRootFileIsAbsoluteAndThere(t *testing.T) {
	t.Chdir(t.TempDir())
	e := newEdge(t, "state")
	e.apply()
	if got := e.RootFile(); got != "" {
		t.Errorf("%q without a local site", got)
	}
	e.apply(localWant("one.test"))
	e.shownFor("one.test")
	if got := e.RootFile(); !filepath.IsAbs(got) {
		t.Errorf("%q", got)
	}
	readRoot(t, e.RootFile())
}
