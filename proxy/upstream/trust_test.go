package upstream

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

var errTest = errors.New("a test says so")

// gets reports whether a backend gets any of many requests now.
func gets(p *Pool, b *Backend) bool {
	for range 100 {
		k, _ := p.choose(&wish{now: time.Now().UnixNano(), again: true})
		k.leave()
		if k == b {
			return true
		}
	}
	return false
}

// TestEjectionGrows from a second to 30, and a success ends it.
func TestEjectionGrows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, some(2), Dialer{})
		b := p.Backends()[0]
		for _, seconds := range []int{1, 2, 4, 8, 16, 30, 30} {
			b.failed(noDial, errTest)
			b.failed(noDial, errTest) // of a request that was under way
			time.Sleep(time.Duration(seconds)*time.Second - time.Millisecond)
			if gets(p, b) {
				t.Fatalf("work before %d s", seconds)
			}
			time.Sleep(time.Millisecond)
			if !gets(p, b) {
				t.Fatalf("no probe after %d s", seconds)
			}
		}
		if s := b.State(); s.Status != "probing" || s.Why != errTest.Error() || s.Ejections != 7 || s.Failures != 14 {
			t.Errorf("state %+v", s)
		}
		b.answered(200, time.Now(), time.Millisecond)
		if s := b.State(); s.Status != "unknown" || s.Failing || !gets(p, b) {
			t.Errorf("state %+v", s)
		}
		b.failed(noDial, errTest)
		time.Sleep(time.Second)
		if !gets(p, b) {
			t.Error("the time did not begin anew")
		}
	})
}

// TestHalfOpen lets one request through at a time, and one that can be sent
// again if it fails.
func TestHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, some(2), Dialer{})
		b := p.Backends()[0]
		b.failed(noDial, errTest)
		time.Sleep(2 * time.Second)
		for range 100 {
			if k, _ := p.choose(&wish{now: time.Now().UnixNano()}); k == b {
				t.Fatal("a request that cannot be repeated probes")
			}
		}
		probes := 0
		for range 1000 {
			if k, _ := p.choose(&wish{now: time.Now().UnixNano(), again: true}); k == b {
				probes++
			}
		}
		if probes != 1 {
			t.Errorf("%d probes at once", probes)
		}
		time.Sleep(probeTime) // its client has left, nobody knows
		if !gets(p, b) {
			t.Error("no probe after that one")
		}
	})
}

// TestBrokenConnections eject after three in a row, and never the last backend.
func TestBrokenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, some(2), Dialer{})
		a, b := p.Backends()[0], p.Backends()[1]
		a.failed(brokeOff, errTest)
		a.failed(brokeOff, errTest)
		a.answered(200, time.Now(), time.Millisecond)
		a.failed(brokeOff, errTest)
		a.failed(brokeOff, errTest)
		if !gets(p, a) {
			t.Error("ejected for two in a row")
		}
		a.failed(brokeOff, errTest)
		if gets(p, a) {
			t.Error("not ejected after three in a row")
		}
		for range 5 {
			b.failed(brokeOff, errTest)
		}
		if !gets(p, b) || b.State().Status != "unknown" {
			t.Error("the last backend was ejected")
		}
	})
}

// TestErrorRuns eject when others do better, and only then.
func TestErrorRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, some(2), Dialer{})
		a, b := p.Backends()[0], p.Backends()[1]
		for range 20 {
			a.answered(500, time.Now(), time.Millisecond)
			b.answered(500, time.Now(), time.Millisecond)
		}
		if !gets(p, a) || !gets(p, b) {
			t.Error("ejected though all answer 500")
		}
		b.answered(200, time.Now(), time.Millisecond)
		a.answered(501, time.Now(), time.Millisecond) // no fault of the VM's
		for range errorRun - 1 {
			a.answered(502, time.Now(), time.Millisecond)
		}
		if !gets(p, a) {
			t.Error("ejected too early")
		}
		a.answered(502, time.Now(), time.Millisecond)
		if gets(p, a) {
			t.Error("not ejected")
		}
		time.Sleep(1500 * time.Millisecond)
		a.answered(503, time.Now(), time.Millisecond) // the probe
		time.Sleep(time.Second)
		if gets(p, a) {
			t.Error("a probe that got a 503 ended the ejection")
		}
	})
}

func TestNoEjection(t *testing.T) {
	s := some(2)
	s.NoEjection = true
	p := pool(t, s, Dialer{})
	b := p.Backends()[0]
	b.failed(noDial, errTest)
	if !gets(p, b) || !b.State().Failing {
		t.Errorf("state %+v", b.State())
	}
}

func TestBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Hour) // the clock of a bubble begins at midnight
		var b budget
		b.init()
		spend := func() (n int) {
			for b.spend(time.Now()) {
				n++
			}
			return n
		}
		if n := spend(); n != 11 {
			t.Errorf("%d retries at first, want 10 and that of the second", n)
		}
		for range 1000 {
			b.earn()
		}
		if n := spend(); n != 200 {
			t.Errorf("%d retries for 1000 requests", n)
		}
		time.Sleep(time.Second)
		if n := spend(); n != 1 {
			t.Errorf("%d retries in a second without requests", n)
		}
		for range 100_000 {
			b.earn()
		}
		if n := spend(); n != 1000 {
			t.Errorf("%d retries were saved up", n)
		}
	})
}

// TestStats of a backend: percentiles within a fifth, forgotten after two
// minutes.
func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := pool(t, some(1), Dialer{})
		b := p.Backends()[0]
		for i := range 1000 {
			b.answered(200, time.Now(), time.Duration(i)*time.Millisecond)
		}
		l := b.State().Latency
		for _, c := range []struct{ got, want time.Duration }{{l.P50, 500 * time.Millisecond}, {l.P90, 900 * time.Millisecond}, {l.P99, 990 * time.Millisecond}} {
			if c.got < c.want || c.got > c.want*5/4 {
				t.Errorf("%v, want %v or a little more", c.got, c.want)
			}
		}
		time.Sleep(time.Minute)
		b.answered(200, time.Now(), time.Millisecond)
		if l := b.State().Latency; l.P50 < 400*time.Millisecond {
			t.Errorf("after a minute %+v", l)
		}
		time.Sleep(time.Minute)
		b.answered(200, time.Now(), time.Millisecond)
		if l := b.State().Latency; l.P99 > 2*time.Millisecond {
			t.Errorf("after two minutes %+v", l)
		}
		time.Sleep(3 * time.Minute)
		if l := b.State().Latency; l != (Latency{}) {
			t.Errorf("after all %+v", l)
		}
	})
}

func TestBuckets(t *testing.T) {
	for d := time.Microsecond; d < 4*time.Minute; d += d/7 + time.Microsecond {
		if up := upperOf(bucketOf(d)); up < d || up > d*5/4+time.Microsecond {
			t.Errorf("%v counts as %v", d, up)
		}
	}
	bucketOf(-time.Second)
	bucketOf(time.Hour)
}

// TestLimit has a VM that does 8 requests at once in 10 ms each; more wait for
// each other.
func TestLimit(t *testing.T) {
	l := newLimit()
	now := time.Now()
	cost := time.Duration(1)
	vm := func(clients int64, rounds int) (worst time.Duration) {
		for range rounds {
			busy := min(clients, l.now())
			took := cost * max(10*time.Millisecond, time.Duration(busy)*10*time.Millisecond/8)
			worst = took
			for range busy {
				now = now.Add(took / time.Duration(busy))
				l.took(now, took, busy)
			}
		}
		return worst
	}
	if vm(1, 2000); l.now() < limitFirst-1 {
		t.Errorf("limit %d after a quiet time", l.now())
	}
	if worst := vm(1000, 1500); worst > 40*time.Millisecond || l.now() < 8 {
		t.Errorf("overloaded: limit %d, latency %v", l.now(), worst)
	}
	// It works through everything, so it is not starved for it later.
	if vm(1000, 10_000); l.now() < 8 || l.now() > 40 {
		t.Errorf("after a long overload: limit %d", l.now())
	}
	// Answers take three times as long from now on, which is no overload.
	cost = 3
	if vm(1000, 3000); l.now() < 6 {
		t.Errorf("limit %d for heavier answers", l.now())
	}
	for range 200 {
		l.overloaded()
		vm(1000, 20)
	}
	if l.now() > 12 {
		t.Errorf("limit %d although attempts fail", l.now())
	}
}
