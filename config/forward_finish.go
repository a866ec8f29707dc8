package config

import (
	"fmt"
	"slices"
)

// onlyTCP reports what a UDP forward has no use for.
func (f *Forward) onlyTCP(t *table) {
	const reason = `matters only with protocol = "tcp"`
	for _, key := range []string{"sni", "queue", "queue_timeout"} {
		if t.has(key) {
			t.fault(key, reason)
		}
	}
	sub, _ := t.sub("timeouts")
	for _, key := range []string{"connect", "hold"} {
		for _, in := range []*table{t, sub} {
			if in.has(key) {
				in.fault(key, reason)
			}
		}
	}
	if f.ProxyProtocol == "v1" {
		t.fault("proxy_protocol", `"v1" knows TCP only: UDP needs "v2"`)
	}
	if f.Health != nil && f.Health.Port == 0 {
		t.fault("health", "needs a port to ask over TCP: UDP gives no answer by itself")
	}
	f.Queue, f.QueueTimeout = 0, 0
}

// finishForward checks what belongs together.
func (b *builder) finishForward(f *Forward, t *table) {
	if !f.Balance.addressed() {
		t.fault("balance", "%q cannot be used here: %s can", f.Balance.Method, addressedMethods)
	}
	if f.Health != nil && f.Health.Type == "" {
		h := *f.Health
		h.Type = HealthTCP
		f.Health = intern(b.shared.health, h)
	}
	bounded, unix := f.MaxConns > 0, false
	for _, list := range f.lists() {
		bounded = bounded || limited(list, b.env.vms)
		unix = unix || slices.ContainsFunc(list, isUnix)
	}
	if !bounded && !f.udp() && !t.has("max_conns") {
		for _, key := range []string{"queue", "queue_timeout"} {
			if t.has(key) {
				t.fault(key, "matters only with max_conns, which neither the forward nor its backends have")
			}
		}
	}
	if !bounded {
		f.Queue, f.QueueTimeout = 0, 0
	}
	if unix && f.Transparent {
		t.fault("transparent", "cannot be used with a unix: backend, which knows no addresses")
	}
	if unix && f.Health != nil && f.Health.Port != 0 {
		t.fault("health", "a unix: backend has no port")
	}
}

// forward takes the address of a forward, and reports a backend that leads back
// to it.
func (t taken) forward(from *table, f *Forward) {
	if f.Listen == "" {
		return
	}
	addr, err := listenAddress(f.Listen)
	if err != nil {
		from.fault("listen", "%v", err)
		return
	}
	if addr.Port() == 0 {
		return
	}
	one := bound{addr, f.udp()}
	if where := t.by(one); where != "" {
		from.fault("listen", "%q cannot be bound beside %s", f.Listen, where)
		return
	}
	t[one] = fmt.Sprintf("that of [[forward]] at %s", f.Pos)
	for _, list := range f.lists() {
		for _, b := range list {
			if leadsTo(b, addr) {
				from.fault("to", "%q leads back to the forward itself", b)
			}
		}
	}
}
