package names

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

const one = "nameserver 10.0.0.53\n"

func TestBothFamiliesInOneOrder(t *testing.T) {
	z := newZone(
		"web1.example. 60 A 10.0.0.2", "web1.example. 60 A 10.0.0.1", "web1.example. 60 A 0.0.0.0", "web1.example. 60 A 10.0.0.1",
		"web1.example. 60 AAAA 2001:db8::1", "web1.example. 60 AAAA fd00::1", "web1.example. 60 AAAA ::ffff:10.0.0.3",
		"alias.example. 60 CNAME other.example.", "other.example. 60 CNAME web1.example.")
	fake(t, z, one, func(t *testing.T, r *rig) {
		a, releaseA := r.Watch("Web1.example", false)
		b, releaseB := r.Watch("alias.example.", false)
		defer releaseA()
		defer releaseB()
		synctest.Wait()
		want(t, a, "2001:db8::1 10.0.0.1 10.0.0.2 10.0.0.3 fd00::1")
		want(t, b, "2001:db8::1 10.0.0.1 10.0.0.2 10.0.0.3 fd00::1")
	})
}

func TestAddressesAndLocalhostNeedNoServer(t *testing.T) {
	z := newZone()
	fake(t, z, one, func(t *testing.T, r *rig) {
		for host, addrs := range map[string]string{
			"10.0.0.9": "10.0.0.9", "fd00::9": "fd00::9", "::ffff:10.0.0.9": "10.0.0.9", "localhost": "127.0.0.1", "web.LOCALHOST.": "::1 127.0.0.1",
		} {
			f, release := r.Watch(host, false)
			if addrs != "127.0.0.1" && addrs != "::1 127.0.0.1" && f.Answer() == nil {
				t.Errorf("%s has no answer at once", host)
			}
			synctest.Wait()
			want(t, f, addrs)
			release()
		}
		if len(z.asked) != 0 {
			t.Errorf("asked %v", z.asked)
		}
	})
}

func TestTTLSaysWhenToAskAgain(t *testing.T) {
	for ttl, next := range map[string]time.Duration{"0": 5 * time.Second, "3": 5 * time.Second, "60": time.Minute, "86400": time.Hour} {
		t.Run(ttl, func(t *testing.T) {
			z := newZone("web1. "+ttl+" A 10.0.0.1", "web1. 100000 AAAA fd00::1")
			fake(t, z, one, func(t *testing.T, r *rig) {
				f, release := r.Watch("web1", false)
				defer release()
				synctest.Wait()
				z.replace("web1. " + ttl + " A 10.0.0.2")
				after(next - time.Millisecond)
				want(t, f, "10.0.0.1 fd00::1")
				after(next/10 + 2*time.Millisecond)
				want(t, f, "10.0.0.2 fd00::1")
				if !f.Answer().At.After(r.begun.Add(next - 1)) {
					t.Error("At is", f.Answer().At)
				}
			})
		})
	}
}

func TestAliasTTLCounts(t *testing.T) {
	z := newZone("a. 20 CNAME b.", "b. 3600 A 10.0.0.1")
	fake(t, z, one, func(t *testing.T, r *rig) {
		_, release := r.Watch("a", false)
		defer release()
		after(23 * time.Second)
		if n := z.count("a. A"); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestOneFeedForEachNameUntilTheLastRelease(t *testing.T) {
	z := newZone("web1. 5 A 10.0.0.1")
	fake(t, z, one, func(t *testing.T, r *rig) {
		a, releaseA := r.Watch("web1", false)
		b, releaseB := r.Watch("WEB1", false)
		other, releaseOther := r.Watch("web1", true)
		if a != b || a == other {
			t.Error("feeds are not shared as they should be")
		}
		releaseOther()
		releaseA()
		releaseA()
		after(time.Minute)
		if n := z.count("web1. A"); n < 8 {
			t.Errorf("asked %d times while there was a watcher", n)
		}
		releaseB()
		before := len(z.asked)
		after(time.Hour)
		if len(z.asked) != before || len(r.names) != 0 || len(r.queue) != 0 {
			t.Errorf("asked %d times more, keeps %d names", len(z.asked)-before, len(r.names))
		}
		c, releaseC := r.Watch("web1", false)
		defer releaseC()
		synctest.Wait()
		want(t, c, "10.0.0.1")
	})
}

func TestFailuresKeepTheLastAnswer(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		fail         func(*zone)
	}{
		{"SERVFAIL", "10.0.0.53:53: SERVFAIL", func(z *zone) {
			z.rcodes["web1. A"], z.rcodes["web1. AAAA"] = dns.RcodeServerFailure, dns.RcodeServerFailure
		}},
		{"half", "10.0.0.53:53: REFUSED", func(z *zone) { z.rcodes["web1. A"] = dns.RcodeRefused; delete(z.records, "web1. AAAA") }},
		{"NXDOMAIN", "no such name", func(z *zone) { clear(z.records) }},
		{"blocked", "no such name", func(z *zone) { z.records["web1. A"] = []string{"web1. 5 A 0.0.0.0"}; delete(z.records, "web1. AAAA") }},
		{"silence", "no answer from 10.0.0.53:53", func(z *zone) { z.silent["10.0.0.53:53"] = true }},
		{"network", "no answer from 10.0.0.53:53: network is unreachable", func(z *zone) { z.broken = syscall.ENETUNREACH }},
	} {
		t.Run(c.name, func(t *testing.T) {
			z := newZone("web1. 5 A 10.0.0.1", "web1. 5 AAAA fd00::1")
			fake(t, z, one, func(t *testing.T, r *rig) {
				var f *Feed
				changes := 0
				z.set(func() { // no answer comes before
					var release func()
					f, release = r.Watch("web1", false)
					t.Cleanup(release)
					f.Subscribe(func() { changes++ })
				})
				synctest.Wait()
				z.set(func() { c.fail(z) })
				after(30 * time.Second)
				want(t, f, "10.0.0.1 fd00::1 !"+c.reason)
				z.set(func() {
					z.broken = nil
					clear(z.silent)
					clear(z.rcodes)
					clear(z.records)
				})
				z.add("web1. 5 A 10.0.0.7")
				after(75 * time.Second)
				want(t, f, "10.0.0.7")
				if changes != 2 {
					t.Errorf("%d changes told", changes)
				}
				if got := r.logged(); !slices.Equal(got, []string{"web1 10.0.0.1 fd00::1", "web1 10.0.0.1 fd00::1 !" + c.reason, "web1 10.0.0.7"}) {
					t.Errorf("log %q", got)
				}
			})
		})
	}
}

func TestANameThatNeverResolvedSaysWhy(t *testing.T) {
	z := newZone()
	fake(t, z, one, func(t *testing.T, r *rig) {
		bad, releaseBad := r.Watch("a..b", false)
		defer releaseBad()
		var f *Feed
		told := 0
		z.set(func() { // no answer comes before
			var release func()
			f, release = r.Watch("web1", false)
			t.Cleanup(release)
			if f.Answer() != nil {
				t.Error("an answer before any was asked for")
			}
			f.Subscribe(func() { told++ })
		})
		synctest.Wait()
		want(t, f, "!no such name")
		want(t, bad, `!"a..b" is no domain name`)
		if !errors.Is(f.Answer().Err, ErrNotFound) || told != 1 {
			t.Error(f.Answer().Err, told)
		}
	})
}

func TestBackOff(t *testing.T) {
	z := newZone()
	fake(t, z, one, func(t *testing.T, r *rig) {
		_, release := r.Watch("web1", false)
		defer release()
		after(time.Hour)
		var at []time.Time
		for i, q := range z.asked {
			if q == "web1. A" {
				at = append(at, z.times[i])
			}
		}
		wait := time.Second
		distinct := map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1])
			if d < wait*3/4 || d > wait*5/4 {
				t.Errorf("pause %d is %v, want about %v", i, d, wait)
			}
			wait = min(2*wait, time.Minute)
			distinct[d] = true
		}
		if len(at) < 50 || len(distinct) < len(at)/2 {
			t.Errorf("%d tries, %d different pauses", len(at), len(distinct))
		}
	})
}

func TestOneFamilyMayFail(t *testing.T) {
	z := newZone("web1. 3600 A 10.0.0.1", "web1. 3600 AAAA fd00::1")
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		defer release()
		synctest.Wait()
		z.set(func() { z.silent["web1. AAAA"] = true })
		z.replace("web1. 3600 A 10.0.0.2")
		r.Refresh("web1")
		after(time.Second) // the refresh
		want(t, f, "10.0.0.1 fd00::1")
		after(time.Second)                // for AAAA
		want(t, f, "10.0.0.2 fd00::1")    // kept
		z.set(func() { clear(z.silent) }) // asked again although A has a long TTL
		z.replace("web1. 3600 AAAA fd00::2")
		after(34 * time.Second)
		want(t, f, "10.0.0.2 fd00::2")
		z.set(func() { z.silent["web1. A"] = true; delete(z.records, "web1. AAAA") })
		r.Refresh("web1")
		after(15 * time.Second)
		want(t, f, "10.0.0.2 fd00::2 !no answer from 10.0.0.53:53") // nobody said that nothing is left
	})
}

func TestAResolverWithoutIPv6DelaysTheFirstAnswerByASecond(t *testing.T) {
	z := newZone("web1. 60 A 10.0.0.1")
	z.silent["web1. AAAA"] = true
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		defer release()
		after(otherFamily)
		want(t, f, "10.0.0.1")
	})
}

func TestRefreshAtMostOnceASecond(t *testing.T) {
	z := newZone("web1. 3600 A 10.0.0.1", "_web._tcp.web1. 3600 SRV 0 0 80 web1.")
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		s, releaseS := r.Watch("_web._tcp.web1", true)
		defer release()
		defer releaseS()
		after(time.Minute)
		z.replace("web1. 3600 A 10.0.0.2")
		r.Refresh("WEB1")
		r.Refresh("nobody")
		synctest.Wait()
		want(t, f, "10.0.0.2")
		r.Refresh("_web._tcp.web1")
		synctest.Wait()
		want(t, s, "10.0.0.2:80")
		before := z.count("web1. A")
		for range 1000 {
			r.Refresh("web1")
			after(10 * time.Millisecond)
		}
		if n := z.count("web1. A") - before; n < 9 || n > 11 {
			t.Errorf("asked %d times in 10 s", n)
		}
	})
}

func TestManyNamesAreBoundedAndSpread(t *testing.T) {
	const many = 2000
	z := newZone()
	for i := range many {
		z.add(fmt.Sprintf("vm%d.x. 100 A 10.0.%d.%d", i, i/256, i%256))
	}
	z.takes = 10 * time.Millisecond
	fake(t, z, one, func(t *testing.T, r *rig) {
		begun := time.Now()
		var releases []func()
		for i := range many {
			_, release := r.Watch(fmt.Sprintf("vm%d.x", i), false)
			releases = append(releases, release)
		}
		if !time.Now().Equal(begun) {
			t.Error("Watch has waited")
		}
		after(99 * time.Second)
		if z.most > parallel {
			t.Errorf("%d queries at once", z.most)
		}
		if len(z.asked) != 2*many {
			t.Errorf("%d queries", len(z.asked))
		}
		after(time.Second)
		var perSecond [12]int
		for i := range perSecond {
			before := z.total()
			after(time.Second)
			perSecond[i] = z.total() - before
		}
		if most := slices.Max(perSecond[:]); most > 2*many/5 {
			t.Errorf("asked again all at once: %v", perSecond)
		}
		for _, release := range releases {
			release()
		}
	})
}

func (z *zone) total() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return len(z.asked)
}

func TestDeadServerHoldsNobodyUpForEver(t *testing.T) {
	z := newZone()
	z.silent["10.0.0.53:53"] = true
	fake(t, z, one, func(t *testing.T, r *rig) {
		var releases []func()
		for i := range 300 {
			_, release := r.Watch(fmt.Sprintf("vm%d", i), false)
			releases = append(releases, release)
		}
		after(time.Minute)
		z.set(func() { clear(z.silent) })
		z.add("vm299. 60 A 10.0.0.1")
		f, release := r.Watch("vm299", false)
		after(2 * time.Minute)
		want(t, f, "10.0.0.1")
		release()
		for _, release := range releases {
			release()
		}
	})
}

func TestRunEndsWhileQueriesAreUnderWay(t *testing.T) {
	z := newZone()
	z.silent["10.0.0.53:53"] = true
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, _ := r.Watch("web1", false)
		synctest.Wait()
		if z.now != 2 || f.Answer() != nil {
			t.Error(z.now, show(f.Answer()))
		}
	}) // goroutines that stay are a deadlock of the bubble
}

func TestSearchAndNdots(t *testing.T) {
	z := newZone("web1.prod.example. 60 A 10.0.0.1", "web2. 60 A 10.0.0.2", "a.b. 60 A 10.0.0.3", "a.b.corp.example. 60 A 10.0.0.4",
		"x.y.z.prod.example. 60 A 10.0.0.5")
	z.rcodes["broken.corp.example. A"] = dns.RcodeServerFailure
	z.rcodes["broken.corp.example. AAAA"] = dns.RcodeServerFailure
	conf := one + "search corp.example prod.example\noptions ndots:2 timeout:1 attempts:1\n"
	fake(t, z, conf, func(t *testing.T, r *rig) {
		for host, text := range map[string]string{
			"web1": "10.0.0.1", "web2": "10.0.0.2", "a.b": "10.0.0.4", "a.b.": "10.0.0.3", "x.y.z": "10.0.0.5",
			"none": "!no such name", "broken": "!10.0.0.53:53: SERVFAIL",
		} {
			f, release := r.Watch(host, false)
			synctest.Wait()
			want(t, f, text)
			release()
		}
	})
}

func TestServersAreTriedInTurnAndSilentOnesLast(t *testing.T) {
	z := newZone("web1. 5 A 10.0.0.1")
	z.silent["10.0.0.51:53"] = true
	fake(t, z, "nameserver 10.0.0.51\nnameserver 10.0.0.52\nnameserver nonsense\noptions timeout:2\n", func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		defer release()
		after(2 * time.Second)
		want(t, f, "10.0.0.1")
		after(20 * time.Second)
		first := slices.IndexFunc(z.servers, func(s string) bool { return s == "10.0.0.52:53" })
		if first != 2 || slices.Contains(z.servers[first:], "10.0.0.51:53") {
			t.Errorf("asked %v", z.servers)
		}
		z.set(func() { clear(z.silent) })
		after(20 * time.Second)
		if !slices.Contains(z.servers[first:], "10.0.0.51:53") {
			t.Error("the first server is never tried again")
		}
	})
}

func TestFilesAreReadAgainWhenTheyChange(t *testing.T) {
	z := newZone("web1. 3600 A 10.0.0.1", "web1.new. 3600 A 10.0.0.3")
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		defer release()
		synctest.Wait()
		want(t, f, "10.0.0.1")

		write(t, filepath.Join(r.dir, "hosts"), "10.0.0.2 Other web1. # moved\nfd00::2 web1\nnonsense web1\n10.0.0.99\n")
		after(7 * time.Second)
		want(t, f, "10.0.0.2 fd00::2")

		write(t, filepath.Join(r.dir, "hosts"), "# nothing\n")
		write(t, filepath.Join(r.dir, "resolv.conf"), "nameserver 10.0.0.54\nsearch new\n")
		after(7 * time.Second)
		want(t, f, "10.0.0.3")
		if last := z.servers[len(z.servers)-1]; last != "10.0.0.54:53" {
			t.Error("asked", last)
		}
	})
}

func TestARefreshLooksAtTheFilesAtOnce(t *testing.T) {
	z := newZone("web1. 3600 A 10.0.0.1")
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("web1", false)
		defer release()
		after(2 * time.Second)
		write(t, filepath.Join(r.dir, "hosts"), "10.0.0.2 web1\n")
		r.Refresh("web1")
		synctest.Wait()
		want(t, f, "10.0.0.2")
	})
}

func TestServices(t *testing.T) {
	z := newZone(
		"_web._tcp.x. 60 SRV 10 3 8080 a.x.", "_web._tcp.x. 60 SRV 10 1 8081 b.x.", "_web._tcp.x. 60 SRV 20 0 8082 c.x.",
		"a.x. 60 A 10.0.0.1", "b.x. 60 A 10.0.0.2", "c.x. 60 A 10.0.0.3", "c.x. 60 AAAA fd00::3",
		"_zero._tcp.x. 60 SRV 0 0 80 a.x.", "_zero._tcp.x. 60 SRV 0 50 80 b.x.",
		"_two._tcp.x. 60 SRV 0 2 80 a.x.", "_two._tcp.x. 60 SRV 0 2 80 c.x.", "_two._tcp.x. 60 SRV 0 2 80 a.x.",
		"_off._tcp.x. 60 SRV 0 0 0 .",
		"_some._tcp.x. 60 SRV 0 0 80 gone.x.", "_some._tcp.x. 60 SRV 1 0 80 a.x.", "_some._tcp.x. 60 SRV 2 0 80 gone.x.",
		"_none._tcp.x. 60 SRV 0 0 80 gone.x.")
	fake(t, z, one, func(t *testing.T, r *rig) {
		for name, text := range map[string]string{
			"_web":  "10.0.0.1:8080*3 10.0.0.2:8081*1 10.0.0.3:8082~ [fd00::3]:8082~",
			"_zero": "10.0.0.1:80*1 10.0.0.2:80*5000",
			"_two":  "10.0.0.1:80*200 10.0.0.3:80*100 [fd00::3]:80*100",
			"_off":  "!no such name",
			"_nope": "!no such name",
			"_some": "10.0.0.1:80 !gone.x.: no such name (and 1 more)",
			"_none": "!gone.x.: no such name",
		} {
			f, release := r.Watch(name+"._tcp.x", true)
			synctest.Wait()
			want(t, f, text)
			release()
		}
	})
}

func TestAServiceKeepsTargetsThatFail(t *testing.T) {
	z := newZone("_web._tcp.x. 3600 SRV 0 1 80 a.x.", "_web._tcp.x. 3600 SRV 0 1 80 b.x.", "a.x. 5 A 10.0.0.1", "b.x. 5 A 10.0.0.2")
	fake(t, z, one, func(t *testing.T, r *rig) {
		f, release := r.Watch("_web._tcp.x", true)
		defer release()
		synctest.Wait()
		z.set(func() {
			z.rcodes["b.x. A"], z.rcodes["b.x. AAAA"] = dns.RcodeServerFailure, dns.RcodeServerFailure
		})
		z.replace("a.x. 5 A 10.0.0.7")
		after(6 * time.Second)
		want(t, f, "10.0.0.7:80*1 10.0.0.2:80*1 !b.x.: 10.0.0.53:53: SERVFAIL")
		z.set(func() { z.rcodes["_web._tcp.x. SRV"] = dns.RcodeServerFailure })
		after(40 * time.Second)
		want(t, f, "10.0.0.7:80*1 10.0.0.2:80*1 !10.0.0.53:53: SERVFAIL")
		z.set(func() { clear(z.rcodes) })
		z.set(func() { z.records["_web._tcp.x. SRV"] = []string{"_web._tcp.x. 5 SRV 0 1 80 b.x."} })
		after(75 * time.Second)
		want(t, f, "10.0.0.2:80*1")
	})
}

func TestPauseIsBounded(t *testing.T) {
	for _, ttl := range []time.Duration{-1, 0, 1, time.Minute, math.MaxInt64} {
		if d := pause(ttl, 0); d < minTTL || d > maxTTL*11/10 {
			t.Errorf("TTL %v: %v", ttl, d)
		}
	}
	for _, n := range []int{1, 7, 100, math.MaxInt} {
		if d := pause(0, n); d < 750*time.Millisecond || d > 75*time.Second {
			t.Errorf("%d failures: %v", n, d)
		}
	}
}
