package tls

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestObtainsByEitherChallenge(t *testing.T) {
	for _, kind := range []string{"http-01", "tls-alpn-01"} {
		t.Run(kind, func(t *testing.T) {
			a := newACMEServer(t)
			a.Types, a.BadNonce = []string{kind}, 5
			e := newEdge(t, t.TempDir(), a)
			e.apply(acmeWant("a.test"), acmeWant("b.test"))
			e.start()
			e.waitValid("a.test", "b.test")
			leaf := e.shownFor("a.test")
			if leaf == nil || leaf.VerifyHostname("a.test") != nil || leaf.CheckSignatureFrom(a.ca) != nil {
				t.Fatalf("shown: %v", leaf)
			}
			if a.contacts[0] != "mailto:ops@example.test" {
				t.Errorf("account of %q", a.contacts)
			}
		})
	}
}

func TestTheOtherChallengeIsTriedWhenOneFails(t *testing.T) {
	a := newACMEServer(t)
	e := newEdge(t, t.TempDir(), a)
	a.HTTPAddr = "127.0.0.1:1"
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
}

func TestAddressesCanBeCertified(t *testing.T) {
	a := newACMEServer(t)
	a.Types = []string{"http-01"}
	e := newEdge(t, t.TempDir(), a)
	e.apply(acmeWant("127.0.0.9"))
	e.start()
	e.waitValid("127.0.0.9")
}

func TestStoredCertificatesNeedNoNetwork(t *testing.T) {
	dir, a := t.TempDir(), newACMEServer(t)
	e := newEdge(t, dir, a)
	e.apply(acmeWant("a.test"), acmeWant("b.test"))
	e.start()
	e.waitValid("a.test", "b.test")
	first := e.shownFor("a.test")
	e.stop()
	a.Close()

	e = newEdge(t, dir, a)
	e.apply(acmeWant("a.test"), acmeWant("b.test"), acmeWant("c.test"))
	if !e.Has("a.test") || e.Has("c.test") {
		t.Error("not known before anything runs")
	}
	if again := e.shownFor("a.test"); again == nil || !again.Equal(first) {
		t.Errorf("shown: %v", again)
	}
	e.start()
	e.waitValid("b.test")
	if st := e.statusOf("b.test"); st.NextTry.Before(time.Now().Add(50*day)) || !strings.HasPrefix(st.Issuer, "127.0.0.1:") {
		t.Errorf("%+v", st)
	}
	if a.Placed("a.test") != 1 || a.Placed("b.test") != 1 {
		t.Error("ordered again")
	}
}

// Two thousand names that fail or hang, at a rate that takes a while, hold up
// neither a name that comes later nor one among them that a client asks for.
func TestThousandsOfFailingNamesDelayNobody(t *testing.T) {
	a := newACMEServer(t)
	a.Types = []string{"http-01"}
	a.Refuse = func(host string) *acmeProblem {
		if strings.HasPrefix(host, "refused") {
			return problemOf("rejectedIdentifier", "policy forbids \x1b[31mit")
		}
		return nil
	}
	a.Hold = func(host string) bool { return strings.HasPrefix(host, "slow") }
	e := newEdge(t, t.TempDir(), a)
	e.jobs.lanes[placeOrder].rate = window{events: 10, span: time.Second}
	wants := []Want{acmeWant("refused.test")}
	for i := range 1000 {
		wants = append(wants, acmeWant(fmt.Sprintf("slow%d.test", i)), acmeWant(fmt.Sprintf("refused%d.test", i)))
	}
	wants = append(wants, acmeWant("asked.test"))
	e.apply(wants...)
	e.start()
	e.eventually("the first has failed, and waits for its next turn", func() bool {
		st := e.statusOf("refused.test")
		return st.State == Failed && !st.NextTry.IsZero()
	})
	st := e.statusOf("refused.test")
	if want := "the ACME server says rejectedIdentifier: policy forbids \ufffd[31mit"; st.Reason != want || time.Until(st.NextTry) < 30*time.Second {
		t.Errorf("%+v, want the reason %q", st, want)
	}
	if e.shownFor("refused.test") != nil || e.shownFor("asked.test") != nil {
		t.Error("a certificate is shown")
	}
	wants = append(wants, acmeWant("late.test"))
	e.apply(wants...)
	e.waitValid("late.test", "asked.test")
	waiting := 0
	for _, st := range e.Status() {
		if st.State == Waiting {
			waiting++
		}
	}
	if waiting < 1000 {
		t.Errorf("only %d names wait: this shows nothing", waiting)
	}
}

func TestFallbackIssuer(t *testing.T) {
	bad, good := newACMEServer(t), newACMEServer(t)
	bad.Refuse = func(string) *acmeProblem { return problemOf("serverInternal", "out of order") }
	e := newEdge(t, t.TempDir(), bad, good)
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	if bad.Placed("a.test") == 0 || good.Placed("a.test") != 1 {
		t.Error("the first issuer was not tried first")
	}
}

// A server that never answers the registration of the account holds nobody up
// for longer than a name waits for it.
func TestFallbackFromAServerThatHangs(t *testing.T) {
	hanging, good := newACMEServer(t), newACMEServer(t)
	release := make(chan struct{})
	hanging.Registering = func() { <-release }
	e := newEdge(t, t.TempDir(), hanging, good)
	t.Cleanup(func() { close(release) })
	e.apply(acmeWant("a.test"), acmeWant("b.test"), acmeWant("c.test"))
	e.start()
	e.eventually("all but the one that waits have certificates", func() bool {
		valid := 0
		for _, st := range e.Status() {
			if st.State == Valid {
				valid++
			}
		}
		return valid == 2
	})
	e.stop()
}

func TestExternalAccount(t *testing.T) {
	a := newACMEServer(t)
	a.EAB = map[string]string{"kid-1": "c2VjcmV0IGtleSBvZiB0aGUgYWNjb3VudA"}
	e := newEdge(t, t.TempDir(), a)
	e.options.Issuers[0].EABKeyID, e.options.Issuers[0].EABKey = "kid-1", "c2VjcmV0IGtleSBvZiB0aGUgYWNjb3VudA=="
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
}

// Without an address certmagic would ask for one on standard input.
func TestNoEmail(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = write
	defer func() { os.Stdout = stdout }()
	a := newACMEServer(t)
	e := newEdge(t, t.TempDir(), a)
	e.options.Email = ""
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	write.Close()
	if printed, _ := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", read.Fd())); len(printed) > 0 {
		t.Errorf("printed %q", printed)
	}
	read.Close()
	if a.contacts[0] != "" {
		t.Errorf("account of %q", a.contacts)
	}
}

func TestRenewalShowsTheOldUntilTheNewIsThere(t *testing.T) {
	a := newACMEServer(t)
	var orders atomic.Int32
	a.Lifetime = func(string) (time.Duration, time.Duration) {
		if orders.Add(1) == 1 {
			return 61 * day, 29 * day // less than a third is left
		}
		return 0, 90 * day
	}
	var refuse atomic.Bool
	a.Refuse = func(string) *acmeProblem {
		if refuse.Load() {
			return problemOf("rateLimited", "too many")
		}
		return nil
	}
	e := newEdge(t, t.TempDir(), a)
	e.pace.settle = time.Hour
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	first := e.shownFor("a.test")
	e.stop()

	refuse.Store(true)
	dir := e.options.StateDir
	e = newEdge(t, dir, a)
	e.apply(acmeWant("a.test"))
	e.start()
	e.eventually("renewal fails", func() bool { return e.statusOf("a.test").State == Expiring })
	if st := e.statusOf("a.test"); !strings.Contains(st.Reason, "rateLimited: too many") || time.Until(st.NextTry) < 50*time.Minute {
		t.Errorf("%+v", st)
	}
	if now := e.shownFor("a.test"); now == nil || !now.Equal(first) {
		t.Error("the old one is not shown")
	}
	e.stop()

	refuse.Store(false)
	e = newEdge(t, dir, a)
	e.apply(acmeWant("a.test"))
	e.start()
	e.eventually("the new one is shown", func() bool { now := e.shownFor("a.test"); return now != nil && !now.Equal(first) })
	if e.waitValid("a.test"); a.Placed("a.test") != 3 {
		t.Errorf("%d orders", a.Placed("a.test"))
	}
}

func TestRenewalWindowOfTheCA(t *testing.T) {
	a := newACMEServer(t)
	var pulledIn atomic.Bool
	a.Renewal = func(string) (time.Time, time.Time) {
		if pulledIn.Load() {
			return time.Now().Add(-2 * day), time.Now().Add(-day)
		}
		return time.Now().Add(40 * day), time.Now().Add(41 * day)
	}
	e := newEdge(t, t.TempDir(), a)
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	if st := e.statusOf("a.test"); st.Next != "renewal window" || time.Until(st.NextTry) > 7*time.Hour {
		t.Errorf("%+v", st)
	}
	first := e.shownFor("a.test")
	pulledIn.Store(true)
	s := e.find("a.test")
	if next := e.work(t.Context(), s, askRenewal); next.action != placeOrder || time.Now().Before(next.at) {
		t.Fatalf("after asking: %+v", next)
	}
	pulledIn.Store(false)
	e.work(t.Context(), s, placeOrder)
	if now := e.shownFor("a.test"); now.Equal(first) {
		t.Error("not renewed")
	}
	if len(a.replaced) != 1 {
		t.Errorf("the order did not say what it replaces: %q", a.replaced)
	}
}

// An expired certificate is not shown, and one that came meanwhile from
// another process is taken without an order.
func TestSharedStorage(t *testing.T) {
	dir, a := t.TempDir(), newACMEServer(t)
	one, two := newEdge(t, dir, a), newEdge(t, dir, a)
	one.apply(acmeWant("a.test"))
	two.apply(acmeWant("a.test"))
	one.start()
	two.start()
	one.waitValid("a.test")
	two.waitValid("a.test")
	if !one.shownFor("a.test").Equal(two.shownFor("a.test")) || a.Placed("a.test") != 1 {
		t.Errorf("%d orders", a.Placed("a.test"))
	}
}

func TestChallengeOfAnotherProcess(t *testing.T) {
	dir, a := t.TempDir(), newACMEServer(t)
	e := newEdge(t, dir, a)
	e.apply(acmeWant("a.test"), localWant("b.test"))
	e.jobs.lanes[placeOrder].limit = 0
	e.start()
	e.eventually("it runs", func() bool { config, _ := e.orders.current(); return config != nil })
	key := e.orders.issuerKeys()[0]
	tokens := filepath.Join(dir, "acme", key, "challenge_tokens")
	if err := os.MkdirAll(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"a.test", "b.test"} {
		challenge := fmt.Sprintf(`{"type":"http-01","token":"tok-1","keyAuthorization":"tok-1.thumb","identifier":{"type":"dns","value":%q}}`, host)
		if err := os.WriteFile(filepath.Join(tokens, host+".json"), []byte(challenge), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		host, token, want string
	}{
		{"a.test", "tok-1", "tok-1.thumb"},
		{"a.test", "tok-2", ""},
		{"a.test", "../a", ""},
		{"a.test", "", ""},
		{"b.test", "tok-1", ""}, // not ours to answer
		{"c.test", "tok-1", ""},
	} {
		if got, ok := e.HTTPChallenge(c.host, c.token); got != c.want || ok != (c.want != "") {
			t.Errorf("%s %s: %q %v", c.host, c.token, got, ok)
		}
	}
}

func TestHalfWrittenStorageIsReplaced(t *testing.T) {
	for _, part := range []string{".crt", ".key", ".json"} {
		t.Run(part, func(t *testing.T) {
			dir, a := t.TempDir(), newACMEServer(t)
			e := newEdge(t, dir, a)
			e.apply(acmeWant("a.test"))
			e.start()
			e.waitValid("a.test")
			e.stop()
			path := filepath.Join(dir, "certificates", e.orders.issuerKeys()[0], "a.test", "a.test"+part)
			if at, err := os.Stat(path); err != nil || at.Mode().Perm() != 0o600 {
				t.Fatal(at.Mode(), err)
			}
			if err := os.Truncate(path, 40); err != nil {
				t.Fatal(err)
			}
			e = newEdge(t, dir, a)
			e.apply(acmeWant("a.test"))
			if e.Has("a.test") {
				t.Error("half a certificate is shown")
			}
			e.start()
			e.waitValid("a.test")
			if e.shownFor("a.test") == nil || a.Placed("a.test") != 2 {
				t.Errorf("%d orders", a.Placed("a.test"))
			}
		})
	}
}

func TestUnwritableStorage(t *testing.T) {
	dir, a := filepath.Join(t.TempDir(), "state"), newACMEServer(t)
	e := newEdge(t, dir, a)
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	if err := os.Rename(dir, dir+"-gone"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e.apply(acmeWant("a.test"), acmeWant("b.test"))
	e.eventually("b.test fails", func() bool { return e.statusOf("b.test").State == Failed })
	if st := e.statusOf("b.test"); !strings.Contains(st.Reason, "state directory cannot be written") {
		t.Errorf("%+v", st)
	}
	if !strings.Contains(e.log.String(), `"level":"error"`) {
		t.Errorf("not said loudly: %s", e.log)
	}
	if e.shownFor("a.test") == nil {
		t.Error("what was loaded is not shown any more")
	}
}

func TestChangedIssuers(t *testing.T) {
	dir, first, second := t.TempDir(), newACMEServer(t), newACMEServer(t)
	e := newEdge(t, dir, first)
	second.HTTPAddr, second.TLSAddr = first.HTTPAddr, first.TLSAddr
	e.apply(acmeWant("a.test"))
	e.start()
	e.waitValid("a.test")
	old := e.shownFor("a.test")

	broken := e.options
	broken.Issuers = []Issuer{{Directory: second.URL + "/dir", CAFile: filepath.Join(dir, "none.pem")}}
	if e.Apply(broken, nil) == nil || !e.Has("a.test") {
		t.Error("a CA file that cannot be read changed something")
	}
	var hold atomic.Bool
	hold.Store(true)
	second.Hold = func(string) bool { return hold.Load() }
	e.options.Issuers = []Issuer{second.issuer()}
	e.apply(acmeWant("a.test"))
	e.eventually("the new issuer is asked", func() bool { return second.Placed("a.test") > 0 })
	if now := e.shownFor("a.test"); now == nil || !now.Equal(old) {
		t.Error("the old one is not shown meanwhile")
	}
	e.stop()

	// A restart in between shows the old one just as well.
	hold.Store(false)
	e = newEdge(t, dir, second)
	e.apply(acmeWant("a.test"))
	if now := e.shownFor("a.test"); now == nil || !now.Equal(old) {
		t.Error("the old one is not shown after a restart")
	}
	e.start()
	e.eventually("the new one is shown", func() bool {
		now := e.shownFor("a.test")
		return now != nil && now.CheckSignatureFrom(second.ca) == nil
	})
}

func TestARemovedNameIsLeftAlone(t *testing.T) {
	a := newACMEServer(t)
	a.Hold = func(string) bool { return true }
	e := newEdge(t, t.TempDir(), a)
	e.apply(acmeWant("a.test"), acmeWant("b.test"))
	e.start()
	e.eventually("orders are under way", func() bool { return a.Placed("a.test") == 1 && a.Placed("b.test") == 1 })
	e.apply(acmeWant("b.test"))
	e.eventually("the order is cancelled", func() bool {
		e.jobs.mu.Lock()
		defer e.jobs.mu.Unlock()
		return e.jobs.lanes[placeOrder].running == 1
	})
	e.apply(acmeWant("b.test"))
	if len(e.Status()) != 1 || a.Placed("b.test") != 1 {
		t.Error("something was begun twice")
	}
}

func TestNothingToOrderWith(t *testing.T) {
	e := newEdge(t, t.TempDir())
	e.apply(acmeWant("a.test"))
	e.start()
	e.eventually("it fails", func() bool { return e.statusOf("a.test").Reason == errNoIssuer.Error() })
	a := newACMEServer(t)
	e.options.Issuers, e.options.HTTPAddrs, e.options.TLSAddrs = []Issuer{a.issuer()}, nil, nil
	e.apply(acmeWant("a.test"))
	e.eventually("it fails", func() bool { return e.statusOf("a.test").Reason == errNoListener.Error() })
}

func TestExpiries(t *testing.T) {
	a := newACMEServer(t)
	a.Lifetime = func(host string) (time.Duration, time.Duration) {
		return 0, map[string]time.Duration{"a.test": 80 * day, "b.test": 70 * day, "c.test": 90 * day}[host]
	}
	e := newEdge(t, t.TempDir(), a)
	e.apply(acmeWant("a.test"), acmeWant("b.test"), acmeWant("c.test"))
	e.start()
	e.waitValid("a.test", "b.test", "c.test")
	soon := e.Expiries(2)
	if len(soon) != 2 || soon[0].Host != "b.test" || soon[1].Host != "a.test" || !soon[1].NotAfter.Equal(e.Expiry("a.test")) {
		t.Errorf("%v", soon)
	}
}

func certPool(cert *x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return pool
}
