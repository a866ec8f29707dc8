package config

import (
	"strings"
	"time"
)

// Forward is one [[forward]]: a port whose connections or packets go to VMs as
// they are. To may be empty only with SNI.
type Forward struct {
	Listen   string // "IP:PORT" or ":PORT"
	Protocol string // "tcp" or "udp"
	Pos      Position

	To  []Backend    // with SNI: for every other name
	SNI []ForwardSNI // TLS, by server name; sorted by Host

	ProxyProtocol string // "", "v1" or "v2"
	Balance       Balance
	SlowStart     time.Duration
	MaxConns      int           // connections or sessions at once to each backend; 0: no limit
	Queue         int           // connections that may wait for a backend at its limit; 0 without a limit too
	QueueTimeout  time.Duration // how long they do
	Health        *Health       // nil: the default, which is a TCP check of more than one backend; never one of a UDP forward
	HealthOff     bool          // no check at all
	NoEjection    bool          // failing connections do not take a backend out
	Transparent   bool          // VMs see the client's address
	Timeouts      *Timeouts     // Connect, Hold and TunnelIdle matter
}

// ForwardSNI is where the TLS connections for one server name go.
type ForwardSNI struct {
	Host        string // canonical, maybe "*.…" or "*"
	Pos         Position
	Passthrough bool // TLS is the VM's; else it ends here and the VM gets plain bytes
	To          []Backend

	Certificate       string // CertACME, CertLocal or CertFile; empty for passthrough
	CertFile, KeyFile string
}

// forwards reads the [[forward]] of all files, which may name any VM.
func (w *load) forwards() {
	for _, e := range w.order {
		if e.fault != nil {
			continue
		}
		top := w.top(e)
		b := w.builder(top)
		for i, values := range forwardTables(top) {
			f := b.forward(top.element("forward", i, values), w.config.Timeouts)
			w.taken.forward(top.element("forward", i, values), f)
			w.config.Forwards = append(w.config.Forwards, f)
		}
	}
}

// forwardTables are the tables of one file.
func forwardTables(top *table) []map[string]any {
	const want = "a list of tables, written [[forward]] once for each port"
	values, _ := top.list("forward", want)
	tables := make([]map[string]any, 0, len(values))
	for _, v := range values {
		one, ok := v.(map[string]any)
		if !ok {
			top.fault("forward", "must be %s, but holds %s", want, kindOf(v))
			return nil
		}
		tables = append(tables, one)
	}
	return tables
}

// forward reads one [[forward]].
func (b *builder) forward(t *table, times Timeouts) *Forward {
	t.known(inForward)
	f := &Forward{
		Protocol: string(TCP), Pos: t.report.find(t.path), Balance: Balance{Method: BalanceRandom2},
		Queue: defaultQueue, QueueTimeout: defaultQueueTimeout,
	}
	if v, ok := t.choice("protocol", string(TCP), string(UDP)); ok {
		f.Protocol = v
	}
	if !t.has("listen") {
		t.missing(`listen is missing, as in ":2222"`)
	}
	f.Listen, _ = t.required("listen")
	b.forwardTo(f, t)
	b.sni(f, t)
	b.forwardPool(f, t)
	if f.udp() {
		times.TunnelIdle = udpIdle
		f.onlyTCP(t)
	}
	f.Timeouts = b.ownTimeouts(t, inForwardTimeouts, &times)
	b.finishForward(f, t)
	return f
}

// udpIdle is the default of tunnel_idle for UDP, where nothing says that a
// session is over.
const udpIdle = time.Minute

func (f *Forward) udp() bool { return f.Protocol == string(UDP) }

// forwardPool reads how the work is shared out among the backends.
func (b *builder) forwardPool(f *Forward, t *table) {
	if v, ok := t.choice("proxy_protocol", "v1", "v2", "none"); ok {
		f.ProxyProtocol = strings.TrimPrefix(v, "none")
	}
	b.balance(t, &f.Balance)
	t.between("slow_start", &f.SlowStart, 0, maxSlowStart)
	t.integer("max_conns", &f.MaxConns, 0, maxConns)
	t.integer("queue", &f.Queue, 0, maxQueue)
	t.between("queue_timeout", &f.QueueTimeout, 0, maxQueueTimeout)
	f.Health, f.HealthOff = b.health(t)
	t.inverse("ejection", &f.NoEjection)
	t.flag("transparent", &f.Transparent)
}

// lists are all lists of backends.
func (f *Forward) lists() [][]Backend {
	lists := [][]Backend{f.To}
	for _, s := range f.SNI {
		lists = append(lists, s.To)
	}
	return lists
}
