package config

import (
	"slices"
	"time"
)

// Defaults and bounds of what waits for a VM at its limit.
const (
	defaultQueue        = 1024
	maxQueue            = 1_000_000
	defaultQueueTimeout = 5 * time.Second
	maxQueueTimeout     = time.Hour
	maxSlowStart        = time.Hour
)

// pool reads how the work is shared out among the backends of a site.
func (b *builder) pool(s *Site, t *table) {
	b.balance(t, &s.Balance)
	b.sticky(s, t)
	t.between("slow_start", &s.SlowStart, 0, maxSlowStart)
	t.integer("max_conns", &s.MaxConns, 0, maxConns)
	t.integer("queue", &s.Queue, 0, maxQueue)
	t.between("queue_timeout", &s.QueueTimeout, 0, maxQueueTimeout)
	t.flag("adaptive_concurrency", &s.Adaptive)
	if t.has("health") {
		s.Health, s.HealthOff = b.health(t)
	}
	t.inverse("ejection", &s.NoEjection)
	t.flag("transparent", &s.Transparent)
}

// inverse reads a boolean into a target that means its opposite.
func (t *table) inverse(key string, target *bool) {
	if v, ok := get[bool](t, key, "true or false"); ok {
		*target = !v
	}
}

// withoutPool clears what means nothing without a VM.
func (s *Site) withoutPool() {
	s.Balance, s.Sticky, s.SlowStart, s.MaxConns, s.Queue, s.QueueTimeout = Balance{}, nil, 0, 0, 0, 0
	s.Adaptive, s.Health, s.HealthOff, s.NoEjection, s.Transparent = false, nil, false, false, false
}

// finishPool checks what depends on the backends of a site.
func (b *builder) finishPool(s *Site, t *table, used schemes) {
	b.finishBalance(s, t)
	b.finishHealth(s, t, used)
	if s.MaxConns == 0 && !b.env.limited(s) {
		if !t.has("max_conns") {
			b.unsuitable(s, t, "matters only with max_conns, which neither the site nor its backends have", "queue", "queue_timeout")
		}
		s.Queue, s.QueueTimeout = 0, 0
	}
	if s.Transparent && hasUnix(s) {
		b.unsuitable(s, t, "cannot be used with a unix: backend, which knows no addresses", "transparent")
		s.Transparent = false
	}
}

// limited reports whether a backend of a site has a limit of its own, or by its
// VM.
func (e *environment) limited(s *Site) bool {
	return limited(s.To, e.vms) || slices.ContainsFunc(s.Paths, func(p Path) bool { return limited(p.To, e.vms) })
}

func limited(list []Backend, vms map[string]VM) bool {
	return slices.ContainsFunc(list, func(b Backend) bool {
		return b.MaxConns > 0 || b.VM != "" && vms[b.VM].MaxConns > 0
	})
}
