package proxy

import (
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"usher/proxy/upstream"
	"usher/router"
)

// portWorld is a snapshot with one raw port: these backends for "a.test", and
// one of port 9 for every other name.
func portWorld(t *testing.T, ports ...uint16) *Snapshot {
	t.Helper()
	plan := upstream.NewSet(upstream.Dialer{}).Plan()
	rest := &ForwardRoute{Pool: poolTo(t, plan, upstream.Address{Host: "127.0.0.1", Port: 9})}
	named := &ForwardRoute{}
	spec := upstream.Spec{}
	for _, p := range ports {
		spec.Addresses = append(spec.Addresses, upstream.Address{Host: "127.0.0.1", Port: p})
	}
	var err error
	if named.Pool, err = plan.Pool(spec); err != nil {
		t.Fatal(err)
	}
	f := &Forward{Name: "tcp://:1", Rest: rest, Names: router.NewTable(map[string]*ForwardRoute{"a.test": named}), List: []*ForwardRoute{named}}
	s := world(t)
	s.Forwards = map[string]*Forward{f.Name: f}
	return s
}

// TestRawTunnelsOverReloads: a tunnel of a raw port belongs to the backends of
// its own name there.
func TestRawTunnelsOverReloads(t *testing.T) {
	for what, c := range map[string]struct {
		next func() *Snapshot
		ends bool
	}{
		"its backend stays":      {func() *Snapshot { return portWorld(t, 1, 2) }, false},
		"its backend leaves":     {func() *Snapshot { return portWorld(t, 2) }, true},
		"another name has it":    {func() *Snapshot { return portWorld(t, 9) }, true},
		"its port goes":          {func() *Snapshot { return world(t) }, true},
		"a site has its backend": {func() *Snapshot { return world(t, 1) }, true},
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := New(Options{})
				p.Publish(portWorld(t, 1))
				var aborted atomic.Bool
				done := p.track(&live{forward: "tcp://:1", key: "a.test", backend: "127.0.0.1:1", abort: func(string) { aborted.Store(true) }})
				p.Publish(c.next())
				time.Sleep(29 * time.Second)
				synctest.Wait()
				if aborted.Load() {
					t.Error("ended before the drain time")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if aborted.Load() != c.ends {
					t.Errorf("ended: %t", aborted.Load())
				}
				done()
			})
		})
	}
}

// TestChallengesOfRawPorts: a token of ours is answered for a name that is no
// site, or that a wildcard takes to a VM; everything else is as if the raw port
// were not there.
func TestChallengesOfRawPorts(t *testing.T) {
	certs := newCertificate(t, "mqtt.test", "mqtt.wild.test")
	certs.token = "ours"
	g := newGate(t, certs, func(s *Snapshot, sites map[string]*Site, plan *upstream.Plan) {
		pool := poolTo(t, plan, echo(t))
		sites["*.wild.test"] = &Site{Passthrough: true, Pool: pool, Plain: pool}
		s.Challenges = map[string]bool{"mqtt.test": true, "mqtt.wild.test": true}
	})
	for _, c := range []struct {
		host, path string
		status     int
		body       string
	}{
		{"mqtt.test", challengePrefix + "ours", 200, "mqtt.test.ours"},
		{"MQTT.test.", challengePrefix + "ours?x", 200, "mqtt.test.ours"},
		{"mqtt.test", challengePrefix + "other", 404, ""},
		{"mqtt.test", "/", 404, ""},
		{"other.test", challengePrefix + "ours", 404, ""},
		{"mqtt.wild.test", challengePrefix + "ours", 200, "mqtt.wild.test.ours"},
		{"mqtt.wild.test", challengePrefix + "other", 200, "GET " + challengePrefix + "other"},
		{"x.wild.test", challengePrefix + "ours", 200, "GET " + challengePrefix + "ours"},
	} {
		r, body := g.get("", c.host, c.path)
		if r.StatusCode != c.status || !strings.HasPrefix(body, c.body) {
			t.Errorf("%s%s: %d %.80q, want %d %q", c.host, c.path, r.StatusCode, body, c.status, c.body)
		}
	}
}
