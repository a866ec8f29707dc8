package proxy

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/upstream"
	"usher/router"
)

// world is a snapshot whose one site has these backends, or none.
func world(t *testing.T, ports ...uint16) *Snapshot {
	t.Helper()
	sites := map[string]*Site{}
	if len(ports) > 0 {
		spec := upstream.Spec{}
		for _, p := range ports {
			spec.Addresses = append(spec.Addresses, upstream.Address{Host: "127.0.0.1", Port: p})
		}
		pool, err := upstream.NewSet(upstream.Dialer{}).Plan().Pool(spec)
		if err != nil {
			t.Fatal(err)
		}
		sites["a.test"] = &Site{Host: "a.test", Rest: &Route{Pool: pool}}
	}
	return &Snapshot{Sites: router.NewTable(sites), Timeouts: Timeouts{Drain: 30 * time.Second}}
}

// TestTunnelsOverReloads follows one from 127.0.0.1:1.
func TestTunnelsOverReloads(t *testing.T) {
	type step struct {
		after time.Duration
		next  *Snapshot
		ends  bool // before the step
	}
	for what, steps := range map[string][]step{
		"its backend stays":         {{0, world(t, 1, 2), false}, {time.Hour, nil, false}},
		"its backend leaves":        {{0, world(t, 2), false}, {29 * time.Second, nil, false}, {2 * time.Second, nil, true}},
		"its site goes":             {{0, world(t), false}, {29 * time.Second, world(t), false}, {2 * time.Second, nil, true}},
		"its backend comes back":    {{0, world(t, 2), false}, {20 * time.Second, world(t, 1), false}, {time.Hour, nil, false}},
		"it leaves a second time":   {{0, world(t), false}, {20 * time.Second, world(t, 1), false}, {20 * time.Second, world(t), false}, {29 * time.Second, nil, false}, {2 * time.Second, nil, true}},
		"it ends before the reload": {},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(Options{})
				p.Publish(world(t, 1))
				var aborted atomic.Int32
				done := p.track(&live{key: "a.test", backend: "127.0.0.1:1", abort: func(string) { aborted.Add(1) }})
				for i, s := range steps {
					time.Sleep(s.after)
					synctest.Wait()
					if got := aborted.Load() == 1; got != s.ends {
						t.Errorf("before step %d: aborted %t", i, got)
					}
					if s.next != nil {
						p.Publish(s.next)
					}
				}
				before := aborted.Load()
				done()
				p.Publish(world(t))
				p.Abort("usher stops")
				time.Sleep(time.Hour)
				if aborted.Load() != before {
					t.Error("aborted after its end")
				}
			})
		})
	}
}

// TestTunnelThatBeginsTooLate was routed by a snapshot that is not the present
// one any more.
func TestTunnelThatBeginsTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		p.Publish(world(t, 2))
		aborted := false
		p.track(&live{key: "a.test", backend: "127.0.0.1:1", abort: func(string) { aborted = true }})
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !aborted {
			t.Error("it stayed")
		}
	})
}

// TestEndedMeansEnded is a reload that found a response just before its end: the
// body that it would stop belongs to another exchange by then.
func TestEndedMeansEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{})
		p.Publish(world(t, 1))
		l := &live{key: "a.test", backend: "127.0.0.1:1", abort: func(string) { t.Error("aborted after its end") }}
		p.track(l)()
		l.follow(world(t))
		l.cut("usher stops")
		time.Sleep(time.Hour)
	})
}
