package tls

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

const (
	stapleScan = time.Minute
	staplers   = 8
)

// stapleLoop keeps the OCSP responses of certificates in memory fresh, for
// those that name a responder, until ctx ends.
func (c *Certificates) stapleLoop(ctx context.Context) {
	tick := time.NewTicker(stapleScan)
	defer tick.Stop()
	for {
		c.stapleDue(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *Certificates) stapleDue(ctx context.Context) {
	due := make(chan *site)
	var running sync.WaitGroup
	for range staplers {
		running.Go(func() {
			for s := range due {
				c.staple(ctx, s)
			}
		})
	}
	for _, s := range *c.sites.Load() {
		if s.wantsStaple(time.Now()) && ctx.Err() == nil {
			due <- s
		}
	}
	close(due)
	running.Wait()
}

// face is where the certificate of the site is shown from, if it is one of
// somebody else's CA.
func (s *site) face() *atomic.Pointer[shown] {
	switch s.want.Kind {
	case KindACME:
		return &s.shown
	case KindFile:
		return &s.pair.last
	default:
		return nil
	}
}

func (s *site) wantsStaple(now time.Time) bool {
	face := s.face()
	if face == nil {
		return false
	}
	has := face.Load()
	if has == nil || len(has.cert.Leaf.OCSPServer) == 0 || has.expired(now) {
		return false
	}
	return now.UnixNano() >= has.stapleAt.Load()
}

func (c *Certificates) staple(ctx context.Context, s *site) {
	face := s.face()
	has := face.Load()
	response, err := c.orders.staple(ctx, has.cert)
	if err != nil {
		has.stapleAt.Store(time.Now().Add(c.pace.staple).UnixNano())
		c.log.Warn().Str("site", s.want.Host).Str("reason", printable(err.Error())).Msg("no OCSP response")
		return
	}
	next := has.stapled(response)
	next.stapleAt.Store(time.Now().Add(c.pace.staple).UnixNano())
	face.CompareAndSwap(has, next)
}
