package telemetry

import (
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// OwnLabel is how many sites get series of their own; the others share
// site="other".
const OwnLabel = 1000

const otherLabel = "other"

// Mode is what made a tunnel.
type Mode uint8

// The modes of tunnels.
const (
	Passthrough Mode = iota // a connection whose TLS is left to the VM
	Upgrade                 // WebSocket and its like
	Forward                 // a raw forward, sessions of UDP included
	modes
)

func (m Mode) String() string { return [modes]string{"passthrough", "upgrade", "forward"}[m] }

// Metrics is every counter of the process. Its methods are safe for concurrent
// use, never block and allocate nothing, except where they say otherwise.
type Metrics struct {
	// Certificates tells of every certificate, at each scrape; nil tells of
	// none. Set it before the first scrape.
	Certificates func(yield func(host string, notAfter time.Time))

	version     string
	log         *Log // may be nil
	connections [kinds]pair
	tunnels     [modes]pair
	refused     [causes]atomic.Uint64
	durations   histogram
	reload      reload
	other       *Site

	mu    sync.Mutex
	sites map[string]*Site // those with a label of their own
}

// pair counts what begins and what ends, alone on its cache line.
type pair struct {
	begun, ended atomic.Uint64
	_            [48]byte
}

// open is how many began and have not ended.
func (p *pair) open() float64 {
	ended := p.ended.Load() // first, so that the difference is never negative
	return float64(p.begun.Load() - ended)
}

// NewMetrics makes the counters of a process. The log may be nil; its dropped
// lines are a metric.
func NewMetrics(version string, log *Log) *Metrics {
	m := &Metrics{version: version, log: log, sites: make(map[string]*Site)}
	m.other = m.newSite(otherLabel)
	return m
}

func (m *Metrics) newSite(label string) *Site { return &Site{label: label, durations: &m.durations} }

// Accepted counts a connection, or a QUIC connection, that was accepted.
func (m *Metrics) Accepted(k Kind) { m.connections[k].begun.Add(1) }

// Closed counts the end of a connection that was Accepted.
func (m *Metrics) Closed(k Kind) { m.connections[k].ended.Add(1) }

// Connections is how many connections of a kind are open.
func (m *Metrics) Connections(k Kind) int { return int(m.connections[k].open()) }

// Refused counts a refused connection or a malformed request.
func (m *Metrics) Refused(c Cause) { m.refused[c].Add(1) }

// TunnelOpened counts a tunnel.
func (m *Metrics) TunnelOpened(o Mode) { m.tunnels[o].begun.Add(1) }

// TunnelClosed counts the end of a tunnel.
func (m *Metrics) TunnelClosed(o Mode) { m.tunnels[o].ended.Add(1) }

// Tunnels is how many tunnels are open.
func (m *Metrics) Tunnels() int {
	n := 0.0
	for i := range m.tunnels {
		n += m.tunnels[i].open()
	}
	return int(n)
}

// SiteFor finds or makes the counters of a site by its canonical host. It is
// for the builder of a configuration, which keeps the pointer; the same host
// gets the same counters until KeepSites forgets it. Beyond OwnLabel sites,
// all get one that they share.
func (m *Metrics) SiteFor(host string) *Site {
	if host == otherLabel || !utf8.ValidString(host) {
		return m.other
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.sites[host]; s != nil {
		return s
	}
	if len(m.sites) >= OwnLabel {
		return m.other
	}
	s := m.newSite(host)
	m.sites[host] = s
	return s
}

// KeepSites forgets the counters of all sites for which keep is false. Who
// still has a pointer may go on counting.
func (m *Metrics) KeepSites(keep func(host string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for host := range m.sites {
		if !keep(host) {
			delete(m.sites, host)
		}
	}
}

// labelled is all sites with series, the shared one last.
func (m *Metrics) labelled() []*Site {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]*Site, 0, len(m.sites)+1)
	for _, s := range m.sites {
		all = append(all, s)
	}
	return append(all, m.other)
}

// reload is what the last reloads did.
type reload struct {
	done, refused      atomic.Uint64
	generation         atomic.Uint64
	success            atomic.Int64 // Unix milliseconds
	problems           atomic.Int64
	sites, quarantined atomic.Int64
}

// Reloaded counts a configuration that went live, the first one too: its
// generation, its sites and how many of them are quarantined.
func (m *Metrics) Reloaded(at time.Time, generation uint64, sites, quarantined, problems int) {
	r := &m.reload
	r.done.Add(1)
	r.success.Store(at.UnixMilli())
	r.generation.Store(generation)
	r.sites.Store(int64(sites))
	r.quarantined.Store(int64(quarantined))
	r.problems.Store(int64(problems))
}

// ReloadRefused counts a configuration that was refused for that many problems.
func (m *Metrics) ReloadRefused(problems int) {
	m.reload.refused.Add(1)
	m.reload.problems.Store(int64(problems))
}
