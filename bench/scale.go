package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"usher/bench/load"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
)

const manySites = 100_000

// own makes a row whose goal is a value of usher's.
func own(id, name, unit string, goal float64) *report.Row {
	return &report.Row{ID: id, Name: name, Unit: unit, Goal: goal, Own: true, By: map[string]*report.Figure{}}
}

// settled is a row with what was measured, or why nothing was.
func settled(r *report.Row, err error) []*report.Row {
	if err != nil {
		r.Fault = err.Error()
	}
	r.Settle()
	return []*report.Row{r}
}

func add(r *report.Row, name string, v float64) {
	if r.By[name] == nil {
		r.By[name] = &report.Figure{}
	}
	r.By[name].Samples = append(r.By[name].Samples, report.Sample{Value: v})
}

var tableResult = regexp.MustCompile(`(?m)^BenchmarkTable/(\w+)/(\d+)\S*\s+\d+\s+([\d.]+) ns/op`)

// lookup runs the Go benchmark of the table of sites, canonical host included:
// what a request costs more with 100,000 sites than with one, for the worst of
// a name, a wildcard and an unknown name.
func (l *lab) lookup(ctx context.Context) []*report.Row {
	r := own("sites-cost", "100,000 sites: more for a look-up", "ns", 300)
	root, err := checkout(ctx)
	if err != nil {
		return settled(r, err)
	}
	for range min(l.o.rounds, 5) {
		process, err := l.starter.Start(machine.Command{Core: l.proxyCore, Dir: root,
			Args: []string{"go", "test", "./router", "-run", "^$", "-bench", "^BenchmarkTable$/./^(1|100000)$", "-benchtime", "200ms"}})
		if err == nil {
			err = process.Wait(ctx)
			process.Stop(os.Kill)
		}
		if err != nil {
			return settled(r, err)
		}
		cost := map[string]float64{}
		for _, m := range tableResult.FindAllStringSubmatch(process.Output(), -1) {
			cost[m[1]+"/"+m[2]], _ = strconv.ParseFloat(m[3], 64)
		}
		worst := 0.0
		for _, kind := range []string{"exact", "wildcard", "unknown"} {
			one, many := cost[kind+"/1"], cost[kind+"/100000"]
			if one == 0 || many == 0 {
				return settled(r, fmt.Errorf("the benchmark says nothing about %s names: %s", kind, process.Output()))
			}
			worst = max(worst, many-one)
		}
		add(r, report.Usher, worst)
		fmt.Fprint(os.Stderr, ".")
	}
	return settled(r, nil)
}

// sites runs usher with 100,000 sites in the short form: from the start of the
// process to the first answer, a reload with one changed included file, and
// its memory after that.
func (l *lab) sites(ctx context.Context) []*report.Row {
	rows := []*report.Row{
		own("sites-load", "100,000 sites: start to first answer", "ms", 1000),
		own("sites-reload", "100,000 sites: reload, one file changed", "ms", 300),
		own("sites-memory", "100,000 sites: memory", "MB RSS", 300),
	}
	var err error
	for range min(l.o.rounds, 5) {
		for _, p := range l.proxies {
			if p.Package == "" && err == nil {
				err = l.sitesRound(ctx, p, rows)
			}
		}
		l.stopAll()
		fmt.Fprint(os.Stderr, ".")
	}
	for _, r := range rows {
		settled(r, err)
	}
	return rows
}

func (l *lab) sitesRound(ctx context.Context, p *peer.Proxy, rows []*report.Row) error {
	to, err := l.startBackend()
	if err != nil {
		return err
	}
	dir := l.file("sites")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var sites strings.Builder
	sites.WriteString("[sites]\n")
	for n := range manySites {
		fmt.Fprintf(&sites, "\"s%d.test\" = \"10.%d.%d.%d:8080\"\n", n, n>>16, n>>8&255, n&255)
	}
	if err := os.WriteFile(filepath.Join(dir, "many.toml"), []byte(sites.String()), 0o600); err != nil {
		return err
	}
	change := func(version int) error {
		var text strings.Builder
		text.WriteString("[sites]\n")
		for n := range 100 {
			fmt.Fprintf(&text, "\"i%d.test\" = \"10.200.%d.%d:80\"\n", n, version, n)
		}
		return os.WriteFile(filepath.Join(dir, "more.toml"), []byte(text.String()), 0o600)
	}
	if err := change(0); err != nil {
		return err
	}
	begin := time.Now()
	i, err := l.launch(p, peer.Task{Backend: to.at, Include: dir})
	if err != nil {
		return err
	}
	if err := l.served(ctx, i); err != nil {
		return err
	}
	add(rows[0], p.Name, time.Since(begin).Seconds()*1e3)
	for version := range 3 {
		if err := change(version + 1); err != nil {
			return err
		}
		begin := time.Now()
		if out, err := exec.CommandContext(ctx, p.Path, "reload", "--admin", i.Task.Admin()).CombinedOutput(); err != nil {
			return fmt.Errorf("reload: %w: %s", err, out)
		}
		add(rows[1], p.Name, time.Since(begin).Seconds()*1e3)
	}
	rss, err := machine.Memory(i.Family(), "VmRSS")
	if err != nil {
		return err
	}
	add(rows[2], p.Name, float64(rss)/1e6)
	peak, err := machine.Memory(i.Family(), "VmHWM")
	if f := rows[2].By[p.Name]; err == nil {
		f.Peak = max(f.Peak, peak)
	}
	return err
}

// starts is the time from the start of a process to the first request that it
// has served. The goal is usher's own; the peers are there to compare.
func (l *lab) starts(ctx context.Context) []*report.Row {
	r := own("start", "start to first served request", "ms", 100)
	to, err := l.startBackend()
	if err != nil {
		return settled(r, err)
	}
	for range l.o.rounds {
		for _, p := range l.proxies {
			if p.Name == "sniproxy" {
				continue // speaks no HTTP
			}
			begin := time.Now()
			i, err := l.launch(p, peer.Task{Backend: to.at})
			if err == nil {
				err = l.served(ctx, i)
			}
			if err != nil {
				return settled(r, err)
			}
			add(r, p.Name, time.Since(begin).Seconds()*1e3)
			i.Stop()
		}
		fmt.Fprint(os.Stderr, ".")
	}
	return settled(r, nil)
}

// served waits for the first answer, asking every millisecond.
func (l *lab) served(ctx context.Context, i *peer.Instance) error {
	for deadline := time.Now().Add(time.Minute); ; {
		err := load.Plan{Kind: "h1", Addr: i.Task.Plain, Size: 128}.Once()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-i.Exited():
			return fmt.Errorf("%s ended: %s", i.Proxy.Name, i.Output())
		case <-time.After(time.Millisecond):
		}
		if time.Now().After(deadline) {
			return err
		}
	}
}
