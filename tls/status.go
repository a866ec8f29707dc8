package tls

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// State says how a site stands.
type State string

// The states of a site.
const (
	Valid    State = "valid"    // there is a certificate and nothing is wrong
	Waiting  State = "waiting"  // there is none yet, and no try has failed
	Failed   State = "failed"   // there is none, and the last try failed
	Expiring State = "expiring" // there is one, but it could not be replaced yet, or its files should be
	Expired  State = "expired"  // the files hold one that clients refuse
)

// Status is one line of `usher certs`. Times that are not known are zero.
type Status struct {
	Host      string    `json:"host"`
	Kind      string    `json:"kind"`
	State     State     `json:"state"`
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Failures  int       `json:"failures,omitempty"` // tries in a row that failed
	Reason    string    `json:"reason,omitempty"`   // of the last failure
	Next      string    `json:"next,omitempty"`     // what happens next: "order" or "renewal window"
	NextTry   time.Time `json:"next_try,omitzero"`  // and when; zero with a Next: it is under way or in the queue
}

// Status lists all wanted names, sorted by host. It reads no storage.
func (c *Certificates) Status() []Status {
	sites := *c.sites.Load()
	all := make([]Status, 0, len(sites))
	for _, s := range sites {
		all = append(all, c.status(s))
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Host, b.Host) })
	return all
}

// RootFile is the absolute path of the local CA's root; empty if there is none,
// since no site has needed it yet.
func (c *Certificates) RootFile() string {
	file, err := filepath.Abs(c.authority.certFile())
	if err != nil {
		return ""
	}
	if _, err = os.Stat(file); err != nil {
		return ""
	}
	return file
}

func (c *Certificates) status(s *site) Status {
	switch s.want.Kind {
	case KindFile:
		return s.fileStatus(time.Now())
	case KindLocal:
		return c.localStatus(s)
	default:
		return c.orderedStatus(s)
	}
}

func (s *site) describe(now *shown) Status {
	st := Status{Host: s.want.Host, Kind: s.want.Kind, State: Valid}
	if now != nil {
		leaf := now.cert.Leaf
		st.Issuer, st.NotBefore, st.NotAfter = printable(leaf.Issuer.String()), leaf.NotBefore, leaf.NotAfter
	}
	return st
}

func (s *site) fileStatus(now time.Time) Status {
	last := s.pair.last.Load()
	st := s.describe(last)
	if err := s.pair.trouble(); err != nil {
		st.Reason = printable(err.Error())
	}
	switch {
	case last == nil && st.Reason == "":
		st.State = Waiting
	case last == nil:
		st.State = Failed
	case last.expired(now):
		st.State = Expired
	case st.Reason != "" || st.NotAfter.Sub(now) < st.NotAfter.Sub(st.NotBefore)/10:
		st.State = Expiring
	}
	if err := s.uncovered(last); st.Reason == "" && err != nil {
		st.Reason = printable(err.Error())
	}
	return st
}

// uncovered is why clients of the site will refuse its certificate.
func (s *site) uncovered(now *shown) error {
	if now == nil || s.want.Host == "*" {
		return nil
	}
	return now.cert.Leaf.VerifyHostname(s.want.Host)
}

func (c *Certificates) localStatus(s *site) Status {
	st := s.describe(s.shown.Load())
	st.Issuer = "local CA"
	if err := c.authority.open(); err != nil {
		st.State, st.Reason = Failed, printable(err.Error())
	}
	return st
}

func (c *Certificates) orderedStatus(s *site) Status {
	next, underWay := c.jobs.next(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.stored
	st := Status{
		Host: s.want.Host, Kind: s.want.Kind, State: Valid,
		Issuer: printable(r.issuer), NotBefore: r.notBefore, NotAfter: r.notAfter,
		Failures: s.trouble.failures, Reason: s.trouble.reason,
	}
	usable := r.present && time.Now().Before(r.notAfter)
	switch {
	case !usable && st.Reason == "":
		st.State = Waiting
	case !usable:
		st.State = Failed
	case st.Reason != "":
		st.State = Expiring
	}
	switch next.action {
	case placeOrder:
		st.Next = "order"
	case askRenewal:
		st.Next = "renewal window"
	}
	if !underWay && next.at.After(time.Now()) {
		st.NextTry = next.at
	}
	return st
}

// Expiry is when the certificate of a site ends.
type Expiry struct {
	Host     string
	NotAfter time.Time
}

// Expiries says when the certificates that are known end, of at most limit
// sites: those that end first, soonest first. Those of the local CA are made as
// needed and left out. It reads no storage.
func (c *Certificates) Expiries(limit int) []Expiry {
	var all []Expiry
	for host, s := range *c.sites.Load() {
		if at := s.notAfter(); !at.IsZero() {
			all = append(all, Expiry{host, at})
		}
	}
	slices.SortFunc(all, func(a, b Expiry) int {
		if order := a.NotAfter.Compare(b.NotAfter); order != 0 {
			return order
		}
		return strings.Compare(a.Host, b.Host)
	})
	return all[:min(limit, len(all))]
}

// Expiry is when the certificate of the site of host ends; zero when there is
// none or none is known yet. It reads no storage.
func (c *Certificates) Expiry(host string) time.Time {
	if s := c.find(host); s != nil {
		return s.notAfter()
	}
	return time.Time{}
}

func (s *site) notAfter() time.Time {
	switch s.want.Kind {
	case KindFile:
		if last := s.pair.last.Load(); last != nil {
			return last.cert.Leaf.NotAfter
		}
	case KindACME:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.stored.notAfter
	}
	return time.Time{}
}
