package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"syscall"
	"time"

	"usher/bench/load"
	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
	"usher/bench/share"
)

// settle is how long a generator runs, after its first answers, before anything
// is counted: connections are open and their handshakes over by then.
const settle = 250 * time.Millisecond

// moment is a reading of every clock and counter.
type moment struct {
	at               time.Time
	cpu              time.Duration // of the proxy
	idle, loadIdle   time.Duration // of the cores
	requests, in, ou uint64
	dropped          int64
}

func (l *lab) now(pids []int, count *share.Counters) (m moment, err error) {
	if m.idle, err = machine.Idle(l.proxyCore); err != nil {
		return m, err
	}
	if m.loadIdle, err = machine.Idle(l.loadCore); err != nil {
		return m, err
	}
	m.dropped = machine.Dropped()
	m.at, m.requests, m.in, m.ou = time.Now(), count.Requests.Load(), count.In.Load(), count.Out.Load()
	m.cpu, err = machine.FamilyCPUTime(pids)
	return m, err
}

// round floods a proxy, or sends at rate if it is above zero, for a time, and
// returns the CPU time for each unit that the backend has answered.
func (l *lab) round(ctx context.Context, r row, i *peer.Instance, count *share.Counters, rate float64, d time.Duration) (s report.Sample, err error) {
	for margin := 500 * time.Millisecond; margin < 20*time.Second; margin *= 4 {
		if s, err = l.try(ctx, r, i, count, rate, d, margin); !errors.Is(err, errEarly) {
			break
		}
	}
	return s, err
}

// errEarly is returned when a machine is so busy with other things that the
// margin which a tool was given was not enough.
var errEarly = errors.New("the load ended early")

func (l *lab) try(ctx context.Context, r row, i *peer.Instance, count *share.Counters, rate float64, d, margin time.Duration) (s report.Sample, err error) {
	var generator *machine.Process
	var failed func() error
	if r.tool != nil && rate == 0 {
		args := r.tool(r, i, settle+d+margin)
		if generator, err = l.starter.Start(machine.Command{Args: args, Core: l.loadCore}); err != nil {
			return s, err
		}
		failed = func() error { return toolFailed(generator) }
	} else {
		plan := r.plan
		plan.Addr, plan.Rate = r.address(i), rate
		var counters *share.Counters
		if generator, counters, err = l.generate(plan); err != nil {
			return s, err
		}
		failed = func() error { return loadFailed(generator, counters) }
	}
	defer generator.Stop(syscall.SIGKILL)
	first := count.Requests.Load() + count.In.Load() + count.Out.Load()
	for n := 0; n < 500 && count.Requests.Load()+count.In.Load()+count.Out.Load() == first; n++ {
		if err := l.sleep(ctx, generator, i, 20*time.Millisecond); err != nil {
			return s, err
		}
	}
	if err := l.sleep(ctx, generator, i, settle); err != nil {
		return s, err
	}
	pids := i.Family()
	a, err := l.now(pids, count)
	if err != nil {
		return s, err
	}
	if err := l.sleep(ctx, generator, i, d); err != nil {
		return s, err
	}
	b, err := l.now(pids, count)
	if err != nil {
		return s, err
	}
	if err := failed(); err != nil {
		return s, err
	}
	units := float64(b.requests - a.requests)
	switch r.megabyte {
	case "in":
		units = float64(b.in-a.in) / 1e6
	case "out":
		units = float64(b.ou-a.ou) / 1e6
	}
	if units == 0 {
		return s, fmt.Errorf("nothing arrived at the backend: %s", generator.Output())
	}
	wall, cpu, idle := b.at.Sub(a.at).Seconds(), (b.cpu - a.cpu).Seconds(), (b.idle - a.idle).Seconds()
	return report.Sample{
		Value: cpu * 1e6 / units, Dropped: b.dropped - a.dropped, Throughput: units / wall, Own: cpu / wall,
		// What others took of the core does not count, so that they cannot make
		// an idle proxy look busy.
		Busy: cpu / (cpu + idle), Load: max(0, 1-(b.loadIdle-a.loadIdle).Seconds()/wall),
	}, nil
}

// sleep waits, but not for a generator or a proxy that has ended.
func (l *lab) sleep(ctx context.Context, generator *machine.Process, i *peer.Instance, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-generator.Exited():
		return fmt.Errorf("%w: %s", errEarly, generator.Output())
	case <-i.Exited():
		return fmt.Errorf("%s ended: %s", i.Proxy.Name, i.Output())
	case <-time.After(d):
		return nil
	}
}

// loadFailed looks at what a generator of ours has counted.
func loadFailed(p *machine.Process, count *share.Counters) error {
	if failed := count.Failed.Load(); failed > 0 {
		return fmt.Errorf("%d of %d failed: %s", failed, failed+count.Done.Load(), p.Output())
	}
	return nil
}

var (
	wrkTrouble    = regexp.MustCompile(`(?m)^\s*(Non-2xx.*|Socket errors: .*)$`)
	h2loadTrouble = regexp.MustCompile(`, (\d+) failed, (\d+) errored`)
)

// toolFailed ends wrk or h2load and looks at its summary.
func toolFailed(p *machine.Process) error {
	if strings.HasSuffix(p.Args[0], "wrk") {
		p.Stop(syscall.SIGINT) // it sums up
		if m := wrkTrouble.FindString(p.Output()); m != "" {
			return errors.New(strings.TrimSpace(m))
		}
		if !strings.Contains(p.Output(), "requests in") {
			return fmt.Errorf("wrk: %s", p.Output())
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return err
	}
	if m := h2loadTrouble.FindStringSubmatch(p.Output()); m == nil || m[1] != "0" || m[2] != "0" {
		return fmt.Errorf("h2load: %s", p.Output())
	}
	return nil
}

// latencies sends n requests at a low rate and returns their times in
// microseconds.
func (l *lab) latencies(ctx context.Context, plan load.Plan, rate float64, n int) ([]float64, error) {
	plan.Rate, plan.Count, plan.Latencies = rate, n, l.file("latencies")
	plan.Conns, plan.Streams = min(plan.Conns, 16), min(plan.Streams, 4)
	p, count, err := l.generate(plan)
	if err != nil {
		return nil, err
	}
	defer p.Stop(syscall.SIGKILL)
	if err := p.Wait(ctx); err != nil {
		return nil, err
	}
	if err := loadFailed(p, count); err != nil {
		return nil, err
	}
	return load.ReadLatencies(plan.Latencies)
}
