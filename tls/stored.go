package tls

import (
	cryptotls "crypto/tls"
	"time"
)

// record is what is known of a certificate in storage without holding it.
type record struct {
	present bool
	current bool   // its issuer is one of those that are configured now
	issuer  string // the ACME server, for people
	chosen  time.Time
	askAt   time.Time // when to ask for the renewal window again; zero: never

	notBefore, notAfter time.Time
}

// stored is a certificate in storage.
type stored struct {
	record
	key  string // of the issuer, in storage
	cert *cryptotls.Certificate
}

// renewAt is the moment chosen in the CA's renewal window (RFC 9773), but not
// later than when a third of the life is left. The extra two seconds make sure
// that certmagic, which rounds up, sees it the same way.
func (r *record) renewAt() time.Time {
	at := r.notAfter.Add(-r.notAfter.Sub(r.notBefore) / 3).Add(2 * time.Second)
	if !r.chosen.IsZero() && r.chosen.Before(at) {
		at = r.chosen
	}
	return at
}

func (r *record) due(now time.Time) bool { return !now.Before(r.renewAt()) }
