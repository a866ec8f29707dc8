package config

import (
	"errors"
	"fmt"
	"slices"
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

// forwardTo reads where everything goes, or what no entry of sni names.
func (b *builder) forwardTo(f *Forward, t *table) {
	if !t.has("to") && !t.has("sni") {
		t.missing("to is missing: where the connections go")
	}
	f.To, _ = t.backends("to", func(text string) (Backend, error) {
		if !strings.Contains(text, "://") && (f.udp() || !strings.HasPrefix(text, "unix:")) {
			text = f.Protocol + "://" + text
		}
		return parseForward(text, b.env.vms, Scheme(f.Protocol))
	})
}

// parseForward reads scheme://host:port or, for TCP, unix:/path.
func parseForward(text string, vms map[string]VM, schemes ...Scheme) (Backend, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok && slices.Contains(schemes, TCP) {
		b, err := unixBackend(path)
		b.Scheme = TCP
		return b, err
	}
	scheme, rest, found := strings.Cut(text, "://")
	i := slices.Index(schemes, Scheme(scheme))
	switch {
	case !found:
		return Backend{}, fmt.Errorf("must begin with %s://", joinSchemes(schemes))
	case i < 0:
		return Backend{}, fmt.Errorf("%s:// cannot be used here, only %s://", scheme, joinSchemes(schemes))
	}
	b := Backend{Scheme: schemes[i], Weight: 1}
	if err := b.setAddress(rest, vms); err != nil {
		return b, err
	}
	if b.Port == 0 && !b.SRV {
		return b, errors.New("the port is missing")
	}
	return b, nil
}

func joinSchemes(schemes []Scheme) string {
	texts := make([]string, len(schemes))
	for i, s := range schemes {
		texts[i] = string(s)
	}
	return strings.Join(texts, ":// or ")
}

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

// lists are all lists of backends.
func (f *Forward) lists() [][]Backend {
	lists := [][]Backend{f.To}
	for _, s := range f.SNI {
		lists = append(lists, s.To)
	}
	return lists
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
