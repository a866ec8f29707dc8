package server

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"usher/config"
	"usher/proxy"
	"usher/proxy/h3"
	"usher/server/admin"
	"usher/telemetry"
)

// quic is the UDP sides of the https listeners. Like the other listeners it is
// opened before a configuration is published and adopted afterwards.
type quic struct {
	proxy    *proxy.Proxy
	config   func() *h3.Config
	metrics  *telemetry.Metrics
	stateDir string

	mu    sync.Mutex
	bound map[string]*quicServer // by https address as configured
	fresh map[string]*quicServer // bound for the configuration that is being applied
	group sync.WaitGroup
}

// quicServer is one UDP side.
type quicServer struct {
	*h3.Server
	open atomic.Int64 // connections
}

// open binds the ports that are wanted and not bound yet. addresses are the
// real ones of the TCP listeners, in the order of conf.HTTPS.
func (q *quic) open(conf *config.Listen, address func(configured string) string) error {
	q.fresh = make(map[string]*quicServer)
	if !conf.HTTP3 {
		return nil
	}
	for _, a := range conf.HTTPS {
		if q.bound[a] != nil {
			continue
		}
		s, err := q.listen(address(a))
		if err != nil {
			q.cancel()
			return err
		}
		q.fresh[a] = s
	}
	return nil
}

func (q *quic) listen(address string) (*quicServer, error) {
	u, err := h3.Listen(address)
	if err != nil {
		return nil, err
	}
	s := new(quicServer)
	s.Server, err = h3.New(h3.Options{
		Conn: u, TLS: q.proxy.QUIC, Client: q.proxy.QUICClient, Handler: q.proxy, StateDir: q.stateDir,
		Config: q.config,
		Opened: func() { s.open.Add(1); q.metrics.Accepted(telemetry.QUIC) },
		Closed: func() { s.open.Add(-1); q.metrics.Closed(telemetry.QUIC) },
		Ended:  q.proxy.Ended,
	})
	if err != nil {
		u.Close()
	}
	return s, err
}

// cancel undoes open.
func (q *quic) cancel() {
	for _, s := range q.fresh {
		s.Close()
	}
	q.fresh = nil
}

// adopt serves what open bound and lets what is not wanted any more end.
func (q *quic) adopt(ctx context.Context, conf *config.Listen) {
	q.mu.Lock()
	defer q.mu.Unlock()
	keep := make(map[string]bool)
	if conf.HTTP3 {
		for _, a := range conf.HTTPS {
			keep[a] = true
		}
	}
	for a, s := range q.bound {
		if !keep[a] {
			s.Drain()
			delete(q.bound, a)
		}
	}
	for a, s := range q.fresh {
		q.bound[a] = s
		q.group.Go(func() { s.Serve(ctx) })
	}
	q.fresh = nil
}

// listening is what is bound, for the status.
func (q *quic) listening() (all []admin.Listener) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.bound {
		all = append(all, admin.Listener{Kind: telemetry.QUIC.String(), Address: s.Conn.Addr().String(), Connections: int(s.open.Load())})
	}
	slices.SortFunc(all, func(a, b admin.Listener) int { return strings.Compare(a.Address, b.Address) })
	return all
}

// drain takes no more connections and requests; wait returns when the last has
// ended.
func (q *quic) drain() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range q.bound {
		s.Drain()
	}
}

func (q *quic) wait() { q.group.Wait() }
