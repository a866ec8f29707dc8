package server

import (
	"context"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"sync"

	"usher/config"
	"usher/server/admin"
)

// control is the two listeners that are not for visitors: [admin] and
// [metrics]. It follows the configuration as the others do: open may fail,
// adopt cannot.
type control struct {
	server    *Server
	endpoints [2]endpoint
	group     sync.WaitGroup
}

// endpoint is one of them.
type endpoint struct {
	kind    string
	listen  func(address string) (net.Listener, error)
	handler http.Handler

	address string // as configured; empty: off
	bound   net.Listener
	stop    context.CancelFunc

	wanted string       // by the configuration that is being applied
	fresh  net.Listener // bound for it
}

func newControl(s *Server) *control {
	c := &control{server: s}
	metrics := s.metrics.Handler()
	c.endpoints[0] = endpoint{kind: "admin", listen: admin.Listen, handler: admin.Handler(apiReload{s}, metrics)}
	c.endpoints[1] = endpoint{kind: "metrics", listen: listenTCP, handler: metrics}
	return c
}

func listenTCP(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return l, nil
}

// open binds what the configuration wants and is not bound.
func (c *control) open(conf *config.Config) error {
	for i, address := range []string{conf.Admin, conf.Metrics} {
		e := &c.endpoints[i]
		e.wanted = address
		if address == "" || address == e.address {
			continue
		}
		var err error
		if e.fresh, err = e.listen(address); err != nil {
			c.cancel()
			return err
		}
	}
	return nil
}

// cancel undoes open.
func (c *control) cancel() {
	for i := range c.endpoints {
		if e := &c.endpoints[i]; e.fresh != nil {
			e.fresh.Close()
			e.fresh = nil
		}
	}
}

// adopt serves what open bound and ends what is not wanted any more.
func (c *control) adopt(ctx context.Context) {
	for i := range c.endpoints {
		e := &c.endpoints[i]
		if e.wanted == e.address {
			continue
		}
		if e.stop != nil {
			e.stop()
			e.stop = nil
		}
		e.address, e.bound, e.fresh = e.wanted, e.fresh, nil
		if e.bound != nil {
			c.serve(ctx, e)
		}
	}
}

func (c *control) serve(ctx context.Context, e *endpoint) {
	ctx, e.stop = context.WithCancel(ctx)
	l, h, kind := e.bound, e.handler, e.kind
	faults := stdlog.New(c.server.log.With().Str("listener", kind).Logger(), "", 0)
	c.group.Go(func() {
		if err := admin.Serve(ctx, l, h, faults); err != nil {
			c.server.log.Error().Err(err).Str("listener", kind).Msg("control listener ended")
		}
	})
}

// wait returns when all servers have ended.
func (c *control) wait() { c.group.Wait() }

// listening is what is bound, for the status.
func (c *control) listening() (all []admin.Listener) {
	c.server.reloading.Lock()
	defer c.server.reloading.Unlock()
	for i := range c.endpoints {
		if e := &c.endpoints[i]; e.bound != nil {
			all = append(all, admin.Listener{Kind: e.kind, Address: e.address})
		}
	}
	return all
}
