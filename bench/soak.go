package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/bench/load"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/share"
	"usher/bench/stats"
)

// soakPlans are what a soak does at the same time.
var soakPlans = []load.Plan{
	{Kind: "h1", Size: 128, Conns: 32},
	{Kind: "post", Size: 10 << 10, Conns: 8},
	{Kind: "tls", Size: 10 << 10, Conns: 16},
	{Kind: "tls-full", Size: 128, Conns: 8},
	{Kind: "h2", Size: 128, Conns: 4, Streams: 8},
	{Kind: "h3", Size: 128, Conns: 4, Streams: 4},
	{Kind: "once", Conns: 8},
	{Kind: "ask", Size: 64 << 10, Conns: 16},
}

const reloadEvery = 10 * time.Second

// vital is one look at a process.
type vital struct {
	at                        time.Duration
	requests, failed          uint64
	rss, goroutines, files    float64
	p50, p99                  float64
	reloads, reloadsThatFault int
}

// soak measures what usher can do with all kinds of load together, and runs it
// at half of that with a reload every 10 s. It fails if a request does, if
// memory, goroutines or descriptors grow, or if the latency does.
func (l *lab) soak(ctx context.Context) error {
	to, err := l.startBackend()
	if err != nil {
		return err
	}
	i, err := l.startProxy(ctx, l.proxies[0], to.at, false)
	if err != nil {
		return err
	}
	plans, err := l.half(ctx, i)
	if err != nil {
		return err
	}
	var counts []*share.Counters
	var loads []process
	total := 0.0
	for _, p := range plans {
		load, count, err := l.generate(p)
		if err != nil {
			return err
		}
		l.running = append(l.running, load)
		loads, counts = append(loads, load), append(counts, count)
		total += p.Rate
		fmt.Printf("%-9s %6.0f/s\n", p.Kind, p.Rate)
	}
	fmt.Printf("together  %6.0f/s, half of what usher can do here; a reload every %v for %v\n\n", total, reloadEvery, l.o.duration)
	fmt.Printf("%9s %12s %7s %8s %8s %11s %6s %9s %9s\n", "time", "requests", "failed", "reloads", "RSS MB", "goroutines", "files", "p50 µs", "p99 µs")
	looks, err := l.watch(ctx, i, loads, counts)
	if err != nil {
		return err
	}
	return verdict(looks)
}

// half floods usher with all plans at once and returns them at half the rates
// that they had.
func (l *lab) half(ctx context.Context, i *peer.Instance) ([]load.Plan, error) {
	plans := slices.Clone(soakPlans)
	var floods []process
	var counts []*share.Counters
	for n := range plans {
		p := &plans[n]
		if p.Addr = (row{plan: *p}).address(i); p.Kind == "ask" {
			p.Rate = 1e6 // beyond reach, but no endless download
		}
		flood, count, err := l.generate(*p)
		if err != nil {
			return nil, err
		}
		defer flood.Stop()
		floods, counts = append(floods, flood), append(counts, count)
	}
	const length = 8 * time.Second
	var before []uint64
	for n := range 2 {
		for k := range floods {
			if err := l.sleep(ctx, floods[k], i, length/time.Duration(len(floods))); err != nil {
				return nil, err
			}
		}
		for k, count := range counts {
			if n == 0 {
				before = append(before, count.Done.Load())
			} else {
				plans[k].Rate = max(1, float64(count.Done.Load()-before[k])/length.Seconds()/2)
			}
		}
	}
	return plans, nil
}

// watch reloads, and looks once for each reload. It prints at most some 60 of
// the looks.
func (l *lab) watch(ctx context.Context, i *peer.Instance, loads []process, counts []*share.Counters) (looks []vital, err error) {
	begin, every := time.Now(), max(1, int(l.o.duration/reloadEvery/60))
	var v vital
	for n := 0; time.Since(begin) < l.o.duration; n++ {
		i.Task.Extra = fmt.Sprintf("hold = \"%ds\"\n[sites.\"n%d.test\"]\nto = \"http://10.0.0.1\"\n", 5+n%2, n)
		if _, err := i.Task.WriteUsher(); err != nil {
			return nil, err
		}
		v.reloads++
		if out, err := exec.CommandContext(ctx, i.Proxy.Path, "reload", "--admin", i.Task.Admin()).CombinedOutput(); err != nil {
			v.reloadsThatFault++
			fmt.Printf("reload %d: %v: %s\n", n, err, out)
		}
		const rate = 150
		probe := load.Plan{Kind: "tls", Size: 128, Conns: 16, Addr: i.Task.TLS}
		times, err := l.latencies(ctx, probe, rate, int(rate*(reloadEvery.Seconds()-0.5)))
		if err != nil {
			return nil, err
		}
		for _, p := range loads {
			if err := l.sleep(ctx, p, i, time.Until(begin.Add(time.Duration(n+1)*reloadEvery))/time.Duration(len(loads))); err != nil {
				return nil, err
			}
		}
		v.at, v.p50, v.p99 = time.Since(begin).Round(time.Second), stats.Percentile(times, 50), stats.Percentile(times, 99)
		if err := v.look(i, counts); err != nil {
			return nil, err
		}
		if looks = append(looks, v); n%every == 0 {
			fmt.Printf("%9v %12d %7d %8d %8.1f %11.0f %6.0f %9.0f %9.0f\n", v.at, v.requests, v.failed, v.reloads, v.rss/1e6, v.goroutines, v.files, v.p50, v.p99)
		}
	}
	for n, count := range counts {
		if count.Failed.Load() > 0 {
			fmt.Printf("%s: %s\n", soakPlans[n].Kind, loads[n].Output())
		}
	}
	return looks, nil
}

var goGoroutines = regexp.MustCompile(`(?m)^go_goroutines (\S+)$`)

func (v *vital) look(i *peer.Instance, counts []*share.Counters) error {
	v.requests, v.failed = 0, 0
	for _, c := range counts {
		v.requests, v.failed = v.requests+c.Done.Load(), v.failed+c.Failed.Load()
	}
	rss, err := machine.Memory(i.Family(), "VmRSS")
	if err != nil {
		return err
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", i.PID()))
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(i.Task.Admin(), "unix:"))
	}}}
	response, err := client.Get("http://localhost/metrics")
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	m := goGoroutines.FindSubmatch(text)
	if m == nil {
		return errors.New("/metrics has no go_goroutines")
	}
	v.rss, v.files = float64(rss), float64(len(files))
	v.goroutines, err = strconv.ParseFloat(string(m[1]), 64)
	return err
}

// verdict compares the last two fifths with the two fifths before them.
func verdict(looks []vital) error {
	if len(looks) < 5 {
		return errors.New("too short to say anything about growth: 50s at least")
	}
	part := len(looks) * 2 / 5
	early, late := looks[len(looks)-2*part:len(looks)-part], looks[len(looks)-part:]
	var faults []string
	fmt.Println()
	for _, c := range []struct {
		name          string
		of            func(vital) float64
		factor, slack float64
	}{
		{"RSS MB", func(v vital) float64 { return v.rss / 1e6 }, 1.05, 2},
		{"goroutines", func(v vital) float64 { return v.goroutines }, 1.05, 20},
		{"descriptors", func(v vital) float64 { return v.files }, 1.05, 20},
		{"p99 µs", func(v vital) float64 { return v.p99 }, 1.5, 1000},
	} {
		var a, b []float64
		for _, v := range early {
			a = append(a, c.of(v))
		}
		for _, v := range late {
			b = append(b, c.of(v))
		}
		before, after := stats.Median(a), stats.Median(b)
		fmt.Printf("%-12s %8.1f, later %8.1f\n", c.name, before, after)
		if after > before*c.factor+c.slack {
			faults = append(faults, c.name+" grew")
		}
	}
	last := looks[len(looks)-1]
	fmt.Printf("%d requests, %d failed; %d reloads, %d failed\n", last.requests, last.failed, last.reloads, last.reloadsThatFault)
	if last.failed > 0 || last.reloadsThatFault > 0 {
		faults = append(faults, "there were failures")
	}
	if len(faults) > 0 {
		return errors.New(strings.Join(faults, ", "))
	}
	fmt.Println("no growth, no failure")
	return nil
}
