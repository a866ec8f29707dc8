package upstream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/message"
)

// some is a spec of n backends that nobody dials, with these weights; none are
// all 1.
func some(n int, weights ...int) Spec {
	s := Spec{}
	for i := range n {
		a := Address{Host: fmt.Sprintf("192.0.2.%d", i+1), Port: 80}
		if i < len(weights) {
			a.Weight = weights[i]
		}
		s.Addresses = append(s.Addresses, a)
	}
	return s
}

// flight is an exchange that is under way.
type flight struct {
	b    *Backend
	ends time.Time
	took time.Duration
}

// simulate has so many clients make n requests, each after the one before, and
// counts those of each backend.
func simulate(t *testing.T, p *Pool, n, clients int, latency func(*Backend) time.Duration) map[*Backend]int {
	t.Helper()
	count := map[*Backend]int{}
	now := time.Now()
	flights := make([]flight, 0, clients)
	for range n {
		if len(flights) == clients {
			first := 0
			for i, f := range flights {
				if f.ends.Before(flights[first].ends) {
					first = i
				}
			}
			f := flights[first]
			flights[first] = flights[len(flights)-1]
			flights = flights[:len(flights)-1]
			now = f.ends
			f.b.answered(200, now, f.took)
			f.b.leave()
		}
		b, why := p.choose(&wish{now: now.UnixNano()})
		if b == nil {
			t.Fatalf("no backend: %d", why)
		}
		count[b]++
		d := latency(b)
		flights = append(flights, flight{b, now.Add(d), d})
	}
	for _, f := range flights {
		f.b.leave()
	}
	return count
}

func constant(d time.Duration) func(*Backend) time.Duration {
	return func(*Backend) time.Duration { return d }
}

// jittery is 5 ms on average, with a tail.
func jittery(*Backend) time.Duration {
	return time.Duration((1 + rand.ExpFloat64()*4) * float64(time.Millisecond))
}

// mixed is a site with quick pages and slow reports.
func mixed(*Backend) time.Duration {
	if rand.IntN(10) == 0 {
		return time.Second
	}
	return 2 * time.Millisecond
}

// TestEqualBackendsShareEvenly: over 10,000 requests they differ by at most 5 %
// of all, by every method, alone and under load.
func TestEqualBackendsShareEvenly(t *testing.T) {
	for _, method := range []Method{Random2, RoundRobin, LeastConn} {
		for name, latency := range map[string]func(*Backend) time.Duration{"constant": constant(3 * time.Millisecond), "jittery": jittery, "mixed": mixed} {
			for _, clients := range []int{1, 2, 64} {
				if name == "mixed" && clients > 1 {
					continue // whoever makes reports leaves the other backend the pages
				}
				s := some(2)
				s.Balance.Method = method
				p := pool(t, s, Dialer{})
				count := simulate(t, p, 10_000, clients, latency)
				a, b := count[p.Backends()[0]], count[p.Backends()[1]]
				if math.Abs(float64(a-b)) > 500 {
					t.Errorf("method %d, %s latency, %d clients: %d and %d", method, name, clients, a, b)
				}
			}
		}
	}
}

// TestWeightsAreKept within 5 % of all requests.
func TestWeightsAreKept(t *testing.T) {
	for _, method := range []Method{Random2, RoundRobin} {
		for _, weights := range [][]int{{1, 2}, {1, 3, 6}, {5, 5, 1}} {
			for _, clients := range []int{1, 16} {
				s := some(len(weights), weights...)
				s.Balance.Method = method
				p := pool(t, s, Dialer{})
				count := simulate(t, p, 10_000, clients, jittery)
				checkShares(t, p, fmt.Sprintf("method %d, weights %v, %d clients", method, weights, clients), count, 10_000)
			}
		}
	}
}

func checkShares(t *testing.T, p *Pool, what string, count map[*Backend]int, n int) {
	t.Helper()
	total := 0.
	for _, b := range p.Backends() {
		total += b.weight
	}
	for i, b := range p.Backends() {
		if want := b.weight / total * float64(n); math.Abs(float64(count[b])-want) > .05*float64(n) {
			t.Errorf("%s: backend %d got %d, want %.0f", what, i, count[b], want)
		}
	}
}

// TestSlowerBackendsGetLess, and are still asked now and then.
func TestSlowerBackendsGetLess(t *testing.T) {
	for _, clients := range []int{1, 16} {
		p := pool(t, some(2), Dialer{})
		slow := p.Backends()[0]
		latency := func(b *Backend) time.Duration {
			if b == slow {
				return 50 * time.Millisecond
			}
			return 5 * time.Millisecond
		}
		count := simulate(t, p, 10_000, clients, latency)
		if n := count[slow]; n > 2500 || n < 50 {
			t.Errorf("%d clients: %d of 10,000 to the backend that is ten times slower", clients, n)
		}
		// It recovers.
		simulate(t, p, 3000, clients, constant(5*time.Millisecond))
		if n := simulate(t, p, 10_000, clients, constant(5*time.Millisecond))[slow]; n < 4500 {
			t.Errorf("%d clients: %d of 10,000 once it is as fast", clients, n)
		}
	}
}

// TestRoundRobinIsSmooth: equal ones strictly in turn, and in every stretch
// each backend is close to its share.
func TestRoundRobinIsSmooth(t *testing.T) {
	s := some(3)
	s.Balance.Method = RoundRobin
	p := pool(t, s, Dialer{})
	var order []*Backend
	for range 30 {
		b, _ := p.choose(&wish{})
		order = append(order, b)
		b.leave()
	}
	for i := range order[:27] {
		if order[i] != order[i+3] || order[i] == order[i+1] {
			t.Fatalf("turn %d is not in turn", i)
		}
	}
	s = some(2, 5, 2)
	s.Balance.Method = RoundRobin
	p = pool(t, s, Dialer{})
	light := 0
	for n := 1; n <= 700; n++ {
		b, _ := p.choose(&wish{})
		b.leave()
		if b == p.Backends()[1] {
			light++
		}
		if want := float64(n) * 2 / 7; math.Abs(float64(light)-want) > 1.5 {
			t.Fatalf("after %d turns the light one had %d", n, light)
		}
	}
}

func TestLeastConn(t *testing.T) {
	s := some(3, 1, 1, 2)
	s.Balance.Method = LeastConn
	p := pool(t, s, Dialer{})
	all := p.Backends()
	all[0].active.Store(2)
	all[1].active.Store(1)
	all[2].active.Store(3)
	if b, _ := p.choose(&wish{}); b != all[1] {
		t.Errorf("chose %s", b)
	}
	if b, _ := p.choose(&wish{}); b != all[2] {
		t.Errorf("then chose %s", b)
	}
}

// TestHashesMoveLittle: when one of n leaves, only its own clients move.
func TestHashesMoveLittle(t *testing.T) {
	s := some(5, 1, 1, 2, 1, 1)
	s.Balance.Method = IPHash
	p := pool(t, s, Dialer{})
	const clients = 12_000
	before := map[Affinity]*Backend{}
	count := map[*Backend]int{}
	for i := range clients {
		ex := &message.Exchange{From: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		a := p.Key(ex)
		b, _ := p.choose(&wish{affinity: a})
		b.leave()
		before[a] = b
		count[b]++
	}
	checkShares(t, p, "ip_hash", count, clients)
	lost := p.Backends()[1]
	lost.failed(noDial, errOwn)
	moved := 0
	for a, b := range before {
		now, _ := p.choose(&wish{affinity: a, now: time.Now().UnixNano()})
		now.leave()
		if now != b {
			moved++
			if b != lost {
				t.Fatalf("affinity %d moved from %s to %s", a, b, now)
			}
		}
	}
	if moved != count[lost] {
		t.Errorf("%d of %d moved, %d had to", moved, clients, count[lost])
	}
}

func TestKeys(t *testing.T) {
	with := func(method Method, name string) *Pool {
		s := some(2)
		s.Balance = Balance{method, name}
		return pool(t, s, Dialer{})
	}
	ex := exchange("GET", "")
	ex.Request.Header.AddString("X-User", "ann")
	ex.Request.Header.AddString("Cookie", "a=1; sid=xyz ;b=2")
	other := exchange("GET", "")
	other.Request.Header.AddString("x-user", "bob")
	other.Request.Header.AddString("Cookie", "sid=abc")
	for _, p := range []*Pool{with(HeaderHash, "x-user"), with(CookieHash, "sid")} {
		if a, b := p.Key(ex), p.Key(other); a == 0 || a == b || a != p.Key(ex) {
			t.Errorf("%v: keys %d and %d", p.spec.Balance, a, b)
		}
		if p.Key(exchange("GET", "")) != 0 {
			t.Errorf("%v: a key without the field", p.spec.Balance)
		}
	}
	if with(CookieHash, "id").Key(ex) != 0 || with(Random2, "").Key(ex) != 0 {
		t.Error("a key where there is none")
	}
}

// TestTiers: backups only when no other works, those that failed only when
// nobody else is left, and never one that the weight switches off.
func TestTiers(t *testing.T) {
	s := some(4)
	s.Addresses[2].Backup = true
	s.Addresses[3].Weight = -1
	p := pool(t, s, Dialer{})
	all := p.Backends()
	chosen := func() map[*Backend]bool {
		got := map[*Backend]bool{}
		for range 200 {
			b, _ := p.choose(&wish{now: time.Now().UnixNano()})
			b.leave()
			got[b] = true
		}
		return got
	}
	expect := func(what string, want ...*Backend) {
		t.Helper()
		got := chosen()
		for _, b := range want {
			if !got[b] {
				t.Errorf("%s: %s gets nothing", what, b)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d backends", what, len(got))
		}
	}
	expect("at first", all[0], all[1])
	all[0].failed(noDial, errOwn)
	expect("one failed", all[1])
	all[1].failed(noDial, errOwn)
	expect("both failed", all[2])
	all[2].failed(noDial, errOwn)
	expect("all failed", all[0], all[1])
}

func TestAffinityIsStable(t *testing.T) {
	p := pool(t, some(3), Dialer{})
	for want := Affinity(1); want < 50; want += 2 {
		first, _ := p.choose(&wish{affinity: want})
		for range 20 {
			if b, _ := p.choose(&wish{affinity: want}); b != first {
				t.Fatalf("affinity %d wavers", want)
			}
		}
	}
}

// TestSlowStart ramps the share of a backend that came back.
func TestSlowStart(t *testing.T) {
	for _, method := range []Method{Random2, RoundRobin} {
		synctest.Test(t, func(t *testing.T) {
			s := some(2)
			s.SlowStart, s.Balance.Method = 10*time.Second, method
			p := pool(t, s, Dialer{})
			back := p.Backends()[0]
			part := func() float64 {
				n := 0
				for range 4000 {
					b, _ := p.choose(&wish{now: time.Now().UnixNano()})
					b.leave()
					if b == back {
						n++
					}
				}
				return float64(n) / 4000
			}
			if got := part(); math.Abs(got-.5) > .05 {
				t.Errorf("at the start of all: %.2f", got)
			}
			back.failed(noDial, errOwn)
			time.Sleep(time.Second)
			back.answered(200, time.Now(), time.Millisecond)
			for _, step := range []struct {
				after time.Duration
				want  float64
			}{{0, .1 / 1.1}, {5 * time.Second, .5 / 1.5}, {6 * time.Second, .5}} {
				time.Sleep(step.after)
				if got := part(); math.Abs(got-step.want) > .05 {
					t.Errorf("method %d: %.2f of the work, want %.2f", method, got, step.want)
				}
			}
		})
	}
}

// FuzzCookie finds what net/http finds.
func FuzzCookie(f *testing.F) {
	for _, s := range []string{"sid=abc", "a=1; sid=xyz ;b=2", "sid", ";;sid==", " sid = x", "\tsid=\"q\"", "asid=1; sid=2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var h message.Header
		h.AddString("Cookie", s)
		got, ok := cookieOf(&h, "sid")
		if !ok && got != nil || strings.ContainsRune(string(got), ';') {
			t.Fatalf("%q: %q, %t", s, got, ok)
		}
		if strings.ContainsAny(s, " \t\n\v\f\r\u0085\u00a0") {
			return // who trims what differs
		}
		r := http.Request{Header: http.Header{"Cookie": {s}}}
		if c, err := r.Cookie("sid"); err == nil && !c.Quoted && c.Value != "" && (!ok || string(got) != c.Value) {
			t.Errorf("%q: %q, want %q", s, got, c.Value)
		}
	})
}

func BenchmarkChoose(b *testing.B) {
	for _, n := range []int{1, 2, 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p, _ := newPool(NewSet(Dialer{}).network, key{}, new(some(n)), some(n).Addresses)
			w := wish{now: time.Now().UnixNano()}
			b.ReportAllocs()
			for b.Loop() {
				k, _ := p.choose(&w)
				k.leave()
			}
		})
	}
}
