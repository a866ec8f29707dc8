package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"usher/bench/load"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
	"usher/bench/share"
)

// memoryRow is what an idle connection costs: the difference between many and
// few of them.
type memoryRow struct {
	id, name string
	proxies  []string
	plan     load.Plan
}

var memoryRows = []memoryRow{
	{"idle-plain", "memory per idle connection", all, load.Plan{Kind: "h1", Size: 128}},
	{"idle-tls", "memory per idle TLS connection", all, load.Plan{Kind: "tls", Size: 128}},
	{"idle-pass", "memory per idle passthrough tunnel", tunnel, load.Plan{Kind: "ask", Size: 16}},
}

const (
	fewIdle, manyIdle = 1_000, 9_000
	idleTime          = time.Minute
)

// idlers is a proxy with connections that do nothing.
type idlers struct {
	name  string
	proxy *peer.Instance
	count *share.Counters
	conns int
	rss   int64
	err   error
}

// memory opens the connections one proxy after the other, so that none is held
// up by the others, and lets them lie together.
func (l *lab) memory(ctx context.Context, r memoryRow) *report.Row {
	result := &report.Row{ID: r.id, Name: r.name, Unit: "KB RSS", Goal: 1, By: map[string]*report.Figure{}}
	if err := l.memoryRound(ctx, r, result); err != nil {
		result.Fault = err.Error()
	}
	l.stopAll()
	result.Settle()
	return result
}

func (l *lab) memoryRound(ctx context.Context, r memoryRow, result *report.Row) error {
	var all []*idlers
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for _, p := range l.proxies {
		if p.Package != "" && !slices.Contains(r.proxies, p.Name) {
			continue
		}
		for _, conns := range []int{fewIdle, manyIdle} {
			i, err := l.idle(ctx, r, p, conns)
			if err != nil {
				return fmt.Errorf("%s with %d connections: %w", p.Name, conns, err)
			}
			all = append(all, i)
			wg.Go(func() { i.rest(ctx) })
		}
	}
	wg.Wait()
	for n := 0; n < len(all); n += 2 {
		few, many := all[n], all[n+1]
		for _, i := range []*idlers{few, many} {
			if i.err != nil {
				return fmt.Errorf("%s with %d connections: %w", i.name, i.conns, i.err)
			}
		}
		f := result.By[few.name]
		if f == nil {
			f = &report.Figure{}
			result.By[few.name] = f
		}
		f.Samples = append(f.Samples, report.Sample{Value: float64(many.rss-few.rss) / float64(many.conns-few.conns) / 1000})
		f.Peak = max(f.Peak, many.rss)
	}
	return nil
}

// idle starts a proxy and opens its connections.
func (l *lab) idle(ctx context.Context, r memoryRow, p *peer.Proxy, conns int) (*idlers, error) {
	to, err := l.startBackend()
	if err != nil {
		return nil, err
	}
	instance, err := l.startProxy(ctx, p, to.at, false)
	if err != nil {
		return nil, err
	}
	cpu := row{plan: r.plan}
	if err := l.check(ctx, cpu, instance); err != nil {
		return nil, err
	}
	plan := r.plan
	plan.Conns, plan.Idle, plan.Addr = conns, true, cpu.address(instance)
	load, count, err := l.generate(plan)
	if err != nil {
		return nil, err
	}
	l.running = append(l.running, load)
	i := &idlers{name: p.Name, proxy: instance, count: count, conns: conns}
	for begin := time.Now(); count.Done.Load() < uint64(conns); {
		if err := l.sleep(ctx, load, instance, 20*time.Millisecond); err != nil {
			return nil, err
		}
		if n := count.Failed.Load(); n > 0 || time.Since(begin) > time.Minute {
			return nil, fmt.Errorf("%d connections open after %v, %d failed", count.Done.Load(), time.Since(begin).Round(time.Second), n)
		}
	}
	return i, nil
}

// rest waits and then reads how much memory the proxy has, if no connection was
// lost.
func (i *idlers) rest(ctx context.Context) {
	select {
	case <-ctx.Done():
		i.err = ctx.Err()
		return
	case <-time.After(idleTime):
	}
	if i.rss, i.err = machine.Memory(i.proxy.Family(), "VmRSS"); i.err == nil && i.count.Failed.Load() > 0 {
		i.err = fmt.Errorf("%d connections were closed while idle: %.300s", i.count.Failed.Load(), i.proxy.Output())
	}
}
