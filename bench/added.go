package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"

	"usher/bench/load"
	"usher/bench/report"
	"usher/bench/stats"
)

// addedRate is in requests a second: a site that is hardly used, so that every
// request finds the proxy asleep.
const (
	addedRate  = 100
	addedTurns = 10
)

// added is what a proxy adds to the latency of a request that goes to the
// backend directly: the median and the 99th percentile of each turn less those
// of the direct ones in the same turn.
func (l *lab) added(ctx context.Context) []*report.Row {
	rows := []*report.Row{
		{ID: "added-p50", Name: "added latency at 100/s, p50", Unit: "µs", Goal: 1, By: map[string]*report.Figure{}},
		{ID: "added-p99", Name: "added latency at 100/s, p99", Unit: "µs", Goal: 1, By: map[string]*report.Figure{}},
	}
	err := l.addedTurns(ctx, rows)
	for _, r := range rows {
		settled(r, err)
	}
	return rows
}

func (l *lab) addedTurns(ctx context.Context, rows []*report.Row) error {
	to, err := l.startBackend()
	if err != nil {
		return err
	}
	type way struct {
		name string
		at   netip.AddrPort
	}
	ways := []way{{"", to.at.HTTP}}
	for _, p := range l.proxies {
		if p.Name == "sniproxy" {
			continue // speaks no HTTP
		}
		i, err := l.startProxy(ctx, p, to.at, false)
		if err != nil {
			return err
		}
		if err := l.check(ctx, row{plan: load.Plan{Kind: "h1", Size: 128}}, i); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		ways = append(ways, way{p.Name, i.Task.Plain})
	}
	var direct [2][]float64
	for n := range addedTurns {
		var p50, p99 = map[string]float64{}, map[string]float64{}
		for k := range ways {
			w := ways[(n+k)%len(ways)]
			times, err := l.latencies(ctx, load.Plan{Kind: "h1", Addr: w.at, Size: 128, Conns: 8}, addedRate, (l.o.samples+addedTurns-1)/addedTurns)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			p50[w.name], p99[w.name] = stats.Percentile(times, 50), stats.Percentile(times, 99)
		}
		direct[0], direct[1] = append(direct[0], p50[""]), append(direct[1], p99[""])
		for _, w := range ways[1:] {
			add(rows[0], w.name, p50[w.name]-p50[""])
			add(rows[1], w.name, p99[w.name]-p99[""])
		}
		fmt.Fprint(os.Stderr, ",")
	}
	for i, r := range rows {
		r.Notes = append(r.Notes, fmt.Sprintf("%.0f µs to the backend directly", stats.Median(direct[i])))
	}
	return nil
}
