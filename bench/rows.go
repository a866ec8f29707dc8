package main

import (
	"context"
	"fmt"
	"time"

	"usher/bench/load"
	"usher/bench/peer"
	"usher/bench/report"
)

// row is one line of the table that is measured in rounds of CPU time.
type row struct {
	id, name string
	goal     float64
	megabyte string // "in" or "out": the unit is a MB that the backend received or sent
	proxies  []string
	plan     load.Plan // what the clients do, in a flood unless there is a tool
	tool     func(r row, at *peer.Instance, d time.Duration) []string
	log      bool // access logs on
	noDelay  bool // no latencies: a unit is no request
}

var (
	all    = []string{"nginx", "HAProxy", "Caddy"}
	tunnel = []string{"nginx", "HAProxy", "sniproxy"}
	onlyH3 = []string{"Caddy"}
)

// entry is any line of the table, or several that come from one measurement.
type entry struct {
	id, name string
	slow     bool // left out of a quick run unless asked for
	measure  func(l *lab, ctx context.Context) []*report.Row
}

// entries are the table.
func entries() []entry {
	var list []entry
	for _, r := range rows {
		list = append(list, entry{r.id, r.name, false, func(l *lab, ctx context.Context) []*report.Row { return []*report.Row{l.measure(ctx, r)} }})
	}
	for _, r := range memoryRows {
		list = append(list, entry{r.id, r.name, true, func(l *lab, ctx context.Context) []*report.Row { return []*report.Row{l.memory(ctx, r)} }})
	}
	return append(list,
		entry{"sites-cost", "100,000 sites: look-up", true, (*lab).lookup},
		entry{"sites", "100,000 sites: load, reload, memory", true, (*lab).sites},
		entry{"added", "added latency at 100 requests/s", true, (*lab).added},
		entry{"start", "start to first served request", false, (*lab).starts},
	)
}

// rows are those of CPU time.
var rows = []row{
	{id: "h1-128", name: "HTTP/1.1 keep-alive, 128 B", goal: 0.85, proxies: all, plan: load.Plan{Kind: "h1", Size: 128, Conns: 64}},
	{id: "h1-10k", name: "HTTP/1.1 keep-alive, 10 KiB", goal: 0.90, proxies: all, plan: load.Plan{Kind: "h1", Size: 10 << 10, Conns: 64}},
	{id: "h1-100k", name: "HTTP/1.1 keep-alive, 100 KiB", goal: 0.90, proxies: all, plan: load.Plan{Kind: "h1", Size: 100 << 10, Conns: 64}},
	{id: "post-10k", name: "POST 10 KiB", goal: 0.90, proxies: all, plan: load.Plan{Kind: "post", Size: 10 << 10, Conns: 64}},
	{id: "upload", name: "upload 100 MiB", goal: 0.90, megabyte: "in", proxies: all, noDelay: true, plan: load.Plan{Kind: "upload", Size: 100 << 20, Conns: 8}},
	{id: "tls-128", name: "TLS keep-alive, 128 B", goal: 0.85, proxies: all, plan: load.Plan{Kind: "tls", Size: 128, Conns: 64}},
	{id: "tls-full", name: "TLS new connection, full", goal: 1, proxies: all, plan: load.Plan{Kind: "tls-full", Size: 128, Conns: 32}},
	{id: "tls-resumed", name: "TLS new connection, resumed", goal: 1, proxies: all, plan: load.Plan{Kind: "tls-resumed", Size: 128, Conns: 32}},
	{id: "h2-128", name: "HTTP/2 16 × 32 streams, 128 B", goal: 0.85, proxies: all, tool: h2load, plan: load.Plan{Kind: "h2", Size: 128, Conns: 16, Streams: 32}},
	{id: "h2-10k", name: "HTTP/2 16 × 32 streams, 10 KiB", goal: 0.85, proxies: all, tool: h2load, plan: load.Plan{Kind: "h2", Size: 10 << 10, Conns: 16, Streams: 32}},
	{id: "h3-128", name: "HTTP/3, 128 B", goal: 0.70, proxies: onlyH3, plan: load.Plan{Kind: "h3", Size: 128, Conns: 8, Streams: 16}},
	{id: "pass-new", name: "passthrough, new connections", goal: 1, proxies: tunnel, plan: load.Plan{Kind: "once", Conns: 64}},
	{id: "pass-bulk", name: "passthrough bulk", goal: 1, megabyte: "out", proxies: tunnel, noDelay: true, plan: load.Plan{Kind: "ask", Size: 4 << 20, Conns: 8}},
	{id: "tls-bulk", name: "TLS bulk download", goal: 0.95, megabyte: "out", proxies: all, noDelay: true, plan: load.Plan{Kind: "tls-bulk", Size: 4 << 20, Conns: 8}},
	{id: "log-128", name: "HTTP/1.1 128 B, access logs on", goal: 0.85, proxies: all, log: true, plan: load.Plan{Kind: "h1", Size: 128, Conns: 64}},
}

// unit is what the figure of a row counts.
func (r row) unit() string {
	if r.megabyte != "" {
		return "µs CPU/MB"
	}
	return "µs CPU"
}

func (r row) volume() string {
	if r.megabyte != "" {
		return "MB/s"
	}
	return "per s"
}

// h2load comes with nghttp2. It is told to offer what our own clients offer.
func h2load(r row, at *peer.Instance, d time.Duration) []string {
	return []string{peer.Find("h2load"), "-t1", fmt.Sprintf("-c%d", r.plan.Conns), fmt.Sprintf("-m%d", r.plan.Streams),
		fmt.Sprintf("--duration=%dms", d.Milliseconds()), "--connect-to=" + at.Task.TLS.String(),
		fmt.Sprintf("https://%s/b/%d", load.Name, r.plan.Size)}
}
