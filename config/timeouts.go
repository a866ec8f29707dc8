package config

import (
	"slices"
	"time"
)

// timeout is one key of [timeouts].
type timeout struct {
	key     string
	value   *time.Duration
	perSite bool
}

// each lists the timeouts with the keys they have in the file.
func (t *Timeouts) each() []timeout {
	return []timeout{
		{"client_hello", &t.ClientHello, false},
		{"handshake", &t.Handshake, false},
		{"request_head", &t.RequestHead, false},
		{"request_body", &t.RequestBody, true},
		{"response_head", &t.ResponseHead, true},
		{"response_write", &t.ResponseWrite, true},
		{"keep_alive", &t.KeepAlive, false},
		{"connect", &t.Connect, true},
		{"tunnel_idle", &t.TunnelIdle, true},
		{"hold", &t.Hold, true},
		{"drain", &t.Drain, false},
	}
}

func defaultTimeouts() Timeouts {
	return Timeouts{
		ClientHello:   5 * time.Second,
		Handshake:     10 * time.Second,
		RequestHead:   15 * time.Second,
		RequestBody:   60 * time.Second,
		ResponseHead:  5 * time.Minute,
		ResponseWrite: 60 * time.Second,
		KeepAlive:     75 * time.Second,
		Connect:       3 * time.Second,
		TunnelIdle:    time.Hour,
		Hold:          5 * time.Second,
		Drain:         30 * time.Second,
	}
}

// readTimeouts reads [timeouts].
func readTimeouts(top *table) Timeouts {
	values := defaultTimeouts()
	t, _ := top.sub("timeouts")
	t.known(inTimeouts)
	for _, one := range values.each() {
		t.duration(one.key, one.value)
	}
	return values
}

// timeouts reads a site's own timeouts, which stand in its table or together
// in a table of their own.
func (b *builder) timeouts(s *Site, t *table) {
	s.Timeouts = b.ownTimeouts(t, inSiteTimeouts, s.Timeouts)
}

// ownTimeouts reads those of one kind over others.
func (b *builder) ownTimeouts(t *table, kind tableKind, base *Timeouts) *Timeouts {
	sub, _ := t.sub("timeouts")
	values := *base
	sub.known(kind)
	keys := keysOf(kind)
	for _, one := range values.each() {
		if !slices.Contains(keys, one.key) {
			continue
		}
		if t.has(one.key) && sub.has(one.key) {
			sub.fault(one.key, "stands outside of timeouts as well")
		}
		t.duration(one.key, one.value)
		sub.duration(one.key, one.value)
	}
	return b.shared.timeouts(base, values)
}
