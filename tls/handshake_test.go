package tls

import (
	cryptotls "crypto/tls"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"
)

// The alerts are a contract: 112 for names that are not ours, 80 for names that
// have no certificate (yet).
func TestAlerts(t *testing.T) {
	const unrecognizedName, internalError = cryptotls.AlertError(112), cryptotls.AlertError(80)
	e := newEdge(t, t.TempDir())
	e.apply(acmeWant("none.test"), localWant("local.test"), localWant("*.wild.test"),
		Want{Host: "file.test", Kind: KindFile, CertFile: "/none.pem", KeyFile: "/none.key"})
	for _, c := range []struct {
		name  string
		alpn  []string
		alert error
	}{
		{"local.test", nil, nil},
		{"LOCAL.test", []string{"h2", "http/1.1"}, nil},
		{"a.wild.test", nil, nil},
		{"a.b.wild.test", nil, unrecognizedName},
		{"wild.test", nil, unrecognizedName},
		{"unknown.test", nil, unrecognizedName},
		{"", nil, unrecognizedName},
		{"none.test", nil, internalError},
		{"file.test", nil, internalError},
		{"none.test", []string{alpnChallenge}, internalError},
		{"local.test", []string{alpnChallenge}, internalError},
		{"unknown.test", []string{alpnChallenge}, unrecognizedName},
	} {
		for _, version := range []uint16{cryptotls.VersionTLS12, cryptotls.VersionTLS13} {
			_, err := e.dial(&cryptotls.Config{ServerName: c.name, NextProtos: c.alpn, MaxVersion: version, InsecureSkipVerify: true})
			if got := cryptotls.AlertError(0); errors.As(err, &got) && got != c.alert || err != nil && c.alert == nil || err == nil && c.alert != nil {
				t.Errorf("%q %v %#x: %v, want %v", c.name, c.alpn, version, err, c.alert)
			}
		}
	}
	if _, err := e.dial(&cryptotls.Config{ServerName: "local.test", MaxVersion: cryptotls.VersionTLS11, InsecureSkipVerify: true}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
}

// A challenge configuration that is handed an ordinary hello shows nothing.
func TestChallengeConfigAnswersNothingElse(t *testing.T) {
	e := newEdge(t, t.TempDir())
	e.apply(localWant("local.test"))
	for _, alpn := range [][]string{nil, {"http/1.1"}, {alpnChallenge, "http/1.1"}} {
		hello := &cryptotls.ClientHelloInfo{ServerName: "local.test", SupportedProtos: alpn}
		if cert, err := e.ChallengeConfig().GetCertificate(hello); cert != nil || !errors.Is(err, errNotChallenge) {
			t.Errorf("%q: %v %v", alpn, cert, err)
		}
	}
}

func TestTickets(t *testing.T) {
	for _, version := range []uint16{cryptotls.VersionTLS12, cryptotls.VersionTLS13} {
		e := newEdge(t, t.TempDir())
		e.apply(localWant("*.test"))
		cache := &oneTicket{}
		resumes := func(name string) bool {
			t.Helper()
			state, err := e.dial(&cryptotls.Config{ServerName: name, MaxVersion: version, InsecureSkipVerify: true, ClientSessionCache: cache})
			if err != nil {
				t.Fatal(err)
			}
			return state.DidResume
		}
		if resumes("a.test") {
			t.Error("resumed out of nothing")
		}
		if !resumes("a.test") {
			t.Errorf("%#x: not resumed", version)
		}
		if resumes("b.test") {
			t.Errorf("%#x: the ticket of a.test was good for b.test", version)
		}
		e.find("b.test").shown.Store(nil) // its certificate is replaced
		if resumes("b.test") {
			t.Errorf("%#x: the ticket outlived its certificate", version)
		}
		now := time.Now()
		e.tickets.Time = func() time.Time { return now.Add(8 * day) }
		if resumes("b.test") {
			t.Errorf("%#x: the key of the ticket was never replaced", version)
		}
	}
}

// oneTicket offers the last ticket to everybody, as a hostile client would.
type oneTicket struct{ state *cryptotls.ClientSessionState }

func (o *oneTicket) Get(string) (*cryptotls.ClientSessionState, bool)  { return o.state, o.state != nil }
func (o *oneTicket) Put(_ string, state *cryptotls.ClientSessionState) { o.state = state }

func TestCovers(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "c.pem"), filepath.Join(dir, "c.key")
	writePair(t, cert, key, "one.test", "*.many.test", "127.0.0.5")
	e := newEdge(t, dir)
	e.apply(Want{Host: "one.test", Kind: KindFile, CertFile: cert, KeyFile: key}, localWant("local.test"), localWant("*"))
	for _, c := range []struct {
		serverName, host string
		want             bool
	}{
		{"one.test", "one.test", true},
		{"one.test", "a.many.test", true},
		{"one.test", "a.b.many.test", false},
		{"one.test", "127.0.0.5", true},
		{"one.test", "127.0.0.6", false},
		{"one.test", "local.test", false},
		{"local.test", "local.test", true},
		{"guest.example", "guest.example", true},
		{"guest.example", "other.example", false},
		{"", "127.0.0.1", true},
		{"", "127.0.0.2", false},
	} {
		if got := e.Covers(c.serverName, netip.MustParseAddr("::ffff:127.0.0.1"), c.host); got != c.want {
			t.Errorf("shown for %q, good for %q: %v", c.serverName, c.host, got)
		}
	}
}

func TestFindDoesNotAllocate(t *testing.T) {
	e := newEdge(t, t.TempDir())
	e.apply(localWant("a.test"), localWant("*.b.test"))
	for _, name := range []string{"a.test", "x.b.test"} {
		if n := testing.AllocsPerRun(100, func() {
			if e.find(name) == nil {
				t.Fatal("not found")
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { e.find("unknown.test") }); n != 0 {
		t.Errorf("unknown: %v allocations", n)
	}
}

func BenchmarkFind(b *testing.B) {
	c := &Certificates{}
	sites := map[string]*site{"*.b.test": newSite(localWant("*.b.test"), nil)}
	c.sites.Store(&sites)
	for b.Loop() {
		c.find("x.b.test")
	}
}
