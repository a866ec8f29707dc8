package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
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
	at                time.Time
	cpu               time.Duration // of the proxy
	waited            time.Duration // it too, for the core
	load              time.Duration // the CPU time of load and backend
	loadIdle          time.Duration // of their core
	requests, in, out uint64
	dropped           int64
}

// now reads everything within half a millisecond, as far as the machine lets it.
func (l *lab) now(pids, others []int, count *share.Counters) (m moment, err error) {
	for range 20 {
		if m, err = l.read(pids, others, count); err != nil || time.Since(m.at) < 500*time.Microsecond {
			break
		}
	}
	if err == nil {
		m.waited = machine.Waited(pids)
		m.dropped = machine.Dropped()
		m.loadIdle, err = machine.Idle(l.loadCore)
	}
	return m, err
}

func (l *lab) read(pids, others []int, count *share.Counters) (m moment, err error) {
	m.at, m.requests, m.in, m.out = time.Now(), count.Requests.Load(), count.In.Load(), count.Out.Load()
	if m.cpu, err = machine.FamilyCPUTime(pids); err != nil {
		return m, err
	}
	if m.load, err = machine.FamilyCPUTime(others); err != nil {
		return m, fmt.Errorf("%w: %w", errEarly, err)
	}
	return m, nil
}

// round floods a proxy, or sends at rate if it is above zero, for a time, and
// returns the CPU time for each unit that the backend has answered.
func (l *lab) round(ctx context.Context, r row, i *peer.Instance, b *farSide, rate float64, d time.Duration) (s report.Sample, err error) {
	for margin := 500 * time.Millisecond; margin < 20*time.Second; margin *= 4 {
		if s, err = l.try(ctx, r, i, b, rate, d, margin); !errors.Is(err, errEarly) {
			break
		}
	}
	return s, err
}

// errEarly is returned when a machine is so busy with other things that the
// margin which a tool was given was not enough.
var errEarly = errors.New("the load ended early")

func (l *lab) try(ctx context.Context, r row, i *peer.Instance, b *farSide, rate float64, d, margin time.Duration) (s report.Sample, err error) {
	var source generator
	var failed func() error
	count := b.count
	if r.tool != nil && rate == 0 {
		args := r.tool(r, i, settle+d+margin)
		tool, err := l.starter.Start(machine.Command{Args: args, Core: l.loadCore, Env: []string{"OPENSSL_CONF=" + l.openssl}})
		if err != nil {
			return s, err
		}
		if err := b.command([]byte("batch")); err != nil {
			return s, err
		}
		defer b.command([]byte("stop"))
		source, failed = process{tool}, func() error { return toolFailed(tool) }
	} else {
		plan := r.plan
		plan.Addr, plan.Rate = r.address(i), rate
		var counters *share.Counters
		if rate == 0 {
			source, counters, err = l.saturate(b, plan)
		} else {
			source, counters, err = l.generate(plan)
		}
		if err != nil {
			return s, err
		}
		failed = func() error { return loadFailed(source, counters) }
	}
	defer source.Stop()
	first := count.Requests.Load() + count.In.Load() + count.Out.Load()
	for n := 0; n < 500 && count.Requests.Load()+count.In.Load()+count.Out.Load() == first; n++ {
		if err := l.sleep(ctx, source, i, 20*time.Millisecond); err != nil {
			return s, err
		}
	}
	if err := l.sleep(ctx, source, i, settle); err != nil {
		return s, err
	}
	pids, others := i.Family(), b.Family()
	if _, in := source.(flood); !in {
		others = append(others, source.Family()...)
	}
	begin, err := l.now(pids, others, count)
	if err != nil {
		return s, err
	}
	if err := l.sleep(ctx, source, i, d); err != nil {
		return s, err
	}
	end, err := l.now(pids, others, count)
	if err != nil {
		return s, err
	}
	if err := failed(); err != nil {
		return s, err
	}
	units := float64(end.requests - begin.requests)
	switch r.megabyte {
	case "in":
		units = float64(end.in-begin.in) / 1e6
	case "out":
		units = float64(end.out-begin.out) / 1e6
	}
	if units == 0 {
		return s, fmt.Errorf("nothing arrived at the backend: %s", source.Output())
	}
	wall, cpu := end.at.Sub(begin.at).Seconds(), (end.cpu - begin.cpu).Seconds()
	return report.Sample{
		Value: cpu * 1e6 / units, Dropped: end.dropped - begin.dropped, Cost: (end.load - begin.load).Seconds() * 1e6 / units, Throughput: units / wall, Own: cpu / wall,
		// A proxy that waits for its core because others have it is busy too. On
		// a machine that does nothing else this is how busy the core was.
		Busy: min(1, cpu/wall+max(0, (end.waited-begin.waited).Seconds()/wall)), Load: max(0, 1-(end.loadIdle-begin.loadIdle).Seconds()/wall),
	}, nil
}

// sleep waits, but not for a generator or a proxy that has ended.
func (l *lab) sleep(ctx context.Context, source generator, i *peer.Instance, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-source.Exited():
		return fmt.Errorf("%w: %s", errEarly, source.Output())
	case <-i.Exited():
		return fmt.Errorf("%s ended: %s", i.Proxy.Name, i.Output())
	case <-time.After(d):
		return nil
	}
}

// loadFailed looks at what a generator of ours has counted.
func loadFailed(p generator, count *share.Counters) error {
	if failed := count.Failed.Load(); failed > 0 {
		return fmt.Errorf("%d of %d failed: %s", failed, failed+count.Done.Load(), p.Output())
	}
	return nil
}

var h2loadTrouble = regexp.MustCompile(`, (\d+) failed, (\d+) errored`)

// toolFailed waits for the end of h2load and looks at its summary.
func toolFailed(p *machine.Process) error {
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
	defer p.Stop()
	if err := p.Wait(ctx); err != nil {
		return nil, err
	}
	if err := loadFailed(p, count); err != nil {
		return nil, err
	}
	return load.ReadLatencies(plan.Latencies)
}
