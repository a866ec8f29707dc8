package tls

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

var errStillDue = errors.New("the order went through, but the certificate in storage is still due")

// read finds out what storage has for a site: once, and again after the
// issuers changed. A certificate is only kept in memory when it is to be
// shown, so that names that nobody visits cost little.
func (c *Certificates) read(s *site, toShow bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known && (!toShow || !s.stored.present || s.shown.Load() != nil) {
		return nil
	}
	found, err := c.orders.load(s.want.Host)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.trouble.reason = printable(err.Error())
		return err
	}
	s.keep(found, toShow)
	return nil
}

// keep makes found what is known of the site. One that is shown is replaced,
// unless it is the same, which may have an OCSP response by now.
func (s *site) keep(found stored, toShow bool) {
	s.known, s.stored = true, found.record
	now := s.shown.Load()
	switch {
	case found.cert == nil, now == nil && !toShow:
	case now != nil && now.cert.Leaf.Equal(found.cert.Leaf):
	default:
		s.shown.Store(newShown(found.cert))
	}
}

// work is what jobs do. Whatever it comes to, there is a next plan.
func (c *Certificates) work(ctx context.Context, s *site, act action) plan {
	switch act {
	case readStorage:
		if err := c.read(s, false); err != nil {
			c.log.Error().Err(err).Str("site", s.want.Host).Msg("certificate storage cannot be read")
		}
	case askRenewal:
		c.askRenewal(ctx, s)
	case placeOrder:
		return c.order(ctx, s)
	}
	return c.plan(s)
}

// plan is what comes next for a site that has no trouble.
func (c *Certificates) plan(s *site) plan {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &s.stored
	if !r.present || !r.current {
		return plan{action: placeOrder, failures: s.trouble.failures}
	}
	renew := r.renewAt()
	if settled := s.ordered.Add(min(c.pace.settle, r.notAfter.Sub(r.notBefore)/3)); settled.After(renew) {
		renew = settled
	}
	if !r.askAt.IsZero() && r.askAt.Before(renew) {
		return plan{action: askRenewal, at: r.askAt}
	}
	return plan{action: placeOrder, at: renew}
}

// askRenewal asks the CA when it wants the certificate renewed.
func (c *Certificates) askRenewal(ctx context.Context, s *site) {
	ctx, cancel := context.WithTimeout(ctx, c.pace.attempt)
	defer cancel()
	found, err := c.orders.askRenewal(ctx, s.want.Host)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		c.log.Debug().Str("site", s.want.Host).Str("reason", printable(err.Error())).Msg("no renewal window from the CA")
		s.stored.askAt = time.Now().Add(c.pace.look)
		return
	}
	s.keep(found, false)
	if soonest := time.Now().Add(time.Minute); s.stored.askAt.Before(soonest) && !s.stored.askAt.IsZero() {
		s.stored.askAt = soonest
	}
}

// order makes one try to get or renew the certificate of a site.
func (c *Certificates) order(ctx context.Context, s *site) plan {
	limited, cancel := context.WithTimeout(ctx, c.pace.attempt)
	defer cancel()
	found, err := c.tryOrder(limited, s.want.Host)
	if ctx.Err() != nil {
		return plan{action: placeOrder}
	}
	if err != nil {
		return c.failed(s, err)
	}
	s.mu.Lock()
	s.keep(found, true)
	s.trouble, s.ordered = trouble{}, time.Now()
	s.mu.Unlock()
	c.log.Info().Str("site", s.want.Host).Str("issuer", found.issuer).Time("not_after", found.notAfter).Msg("certificate obtained")
	return c.plan(s)
}

// tryOrder orders unless another process that shares the storage already did.
func (c *Certificates) tryOrder(ctx context.Context, host string) (stored, error) {
	have, err := c.orders.load(host)
	if err == nil && have.current && !have.due(time.Now()) {
		return have, nil
	}
	if err := c.orders.place(ctx, host, have); err != nil {
		return stored{}, err
	}
	got, err := c.orders.load(host)
	if err == nil && (!got.current || have.current && got.cert.Leaf.Equal(have.cert.Leaf)) {
		err = errStillDue
	}
	return got, err
}

func (c *Certificates) failed(s *site, err error) plan {
	reason, limited := c.orders.explain(s.want.Host, err)
	s.mu.Lock()
	s.trouble.failures++
	s.trouble.reason = reason
	failures := s.trouble.failures
	s.mu.Unlock()
	wait := c.pace.backOff(failures)
	if limited {
		wait = max(wait, c.pace.limited)
	}
	next := plan{action: placeOrder, at: time.Now().Add(wait), failures: failures}
	c.log.Warn().Str("site", s.want.Host).Str("reason", reason).Int("failures", failures).
		Time("next_try", next.at).Msg("no certificate")
	return next
}
