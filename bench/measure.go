package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/report"
	"usher/bench/stats"
)

const (
	saturated = 0.85 // share of time in which a proxy must have something to do
	fixed     = 0.8  // of what the slowest proxy did in a flood: the one fixed rate
	lowLoad   = 0.2  // of what the slowest could do on a core of its own, for latencies
	maxRate   = 2000 // for latencies
)

// contest is a row under way.
type contest struct {
	*lab
	row       row
	result    *report.Row
	backend   *farSide
	instances []*peer.Instance
}

// measure runs a row of CPU time from the start of the proxies to their end.
func (l *lab) measure(ctx context.Context, r row) *report.Row {
	c := &contest{lab: l, row: r, result: &report.Row{ID: r.id, Name: r.name, Unit: r.unit(), Volume: r.volume(), Goal: r.goal, By: map[string]*report.Figure{}}}
	defer l.stopAll()
	if err := c.run(ctx); err != nil {
		c.result.Fault = err.Error()
	}
	c.result.Settle()
	return c.result
}

func (c *contest) run(ctx context.Context) error {
	if err := c.start(ctx); err != nil {
		return err
	}
	rate, slowest, full, err := c.warmUp(ctx)
	if err != nil {
		return err
	}
	if full {
		if err := c.rounds(ctx, 0); err != nil {
			return err
		}
		full = c.full()
	}
	if !full {
		c.result.Rate = rate
		if err := c.rounds(ctx, c.result.Rate/c.perUnit()); err != nil {
			return err
		}
	}
	if !c.row.noDelay {
		if err := c.delays(ctx, min(maxRate, slowest*lowLoad)); err != nil {
			return err
		}
	}
	for _, i := range c.instances {
		if c.result.By[i.Proxy.Name].Peak, err = machine.Memory(i.Family(), "VmHWM"); err != nil {
			return err
		}
	}
	return nil
}

// start starts the proxies of the row and checks each.
func (c *contest) start(ctx context.Context) error {
	to, err := c.startBackend()
	if err != nil {
		return err
	}
	c.backend = to
	for _, p := range c.proxies {
		if p.Package != "" && !slices.Contains(c.row.proxies, p.Name) {
			continue
		}
		i, err := c.startProxy(ctx, p, to.at, c.row.log)
		if err != nil {
			return err
		}
		if err := c.check(ctx, c.row, i); err != nil {
			return fmt.Errorf("%s does not do what the row is about: %w; %s", p.Name, err, i.Output())
		}
		c.instances = append(c.instances, i)
		c.result.By[p.Name] = &report.Figure{}
	}
	return nil
}

// perUnit is how many of the row's units one unit of a paced plan is.
func (c *contest) perUnit() float64 {
	if c.row.megabyte != "" {
		return float64(c.row.plan.Size) / 1e6
	}
	return 1
}

// warmUp floods each proxy. It tells whether the load keeps all of them busy, a
// fixed rate for the case that it does not, and what the slowest could do with
// all of its core.
func (c *contest) warmUp(ctx context.Context) (rate, slowest float64, full bool, err error) {
	rate, slowest, full = math.Inf(1), math.Inf(1), true
	for _, i := range c.instances {
		var busy, throughput, value []float64
		for n := 0; n < 3 && (n == 0 || stats.Median(busy) < saturated); n++ {
			s, err := c.round(ctx, c.row, i, c.backend, 0, min(c.o.time, 700*time.Millisecond))
			if err != nil {
				return 0, 0, false, fmt.Errorf("%s: %w", i.Proxy.Name, err)
			}
			if c.o.verbose {
				fmt.Fprintf(os.Stderr, "\n%s warm-up %+v", i.Proxy.Name, s)
			}
			busy, throughput, value = append(busy, s.Busy), append(throughput, s.Throughput), append(value, s.Value)
		}
		capacity := 1e6 / stats.Median(value)
		slowest = min(slowest, capacity)
		// Where others take most of the core, a flood says little.
		rate = min(rate, max(fixed*stats.Median(throughput), lowLoad*capacity))
		if b := stats.Median(busy); b < saturated {
			full = false
			c.note("%s was %.0f %% busy at most, hence a fixed rate for all", i.Proxy.Name, 100*b)
		}
	}
	return rate, slowest, full, nil
}

func (c *contest) note(format string, args ...any) {
	c.result.Notes = append(c.result.Notes, fmt.Sprintf(format, args...))
}

// rounds measures all proxies in turn, each time beginning with another one.
func (c *contest) rounds(ctx context.Context, rate float64) error {
	for _, f := range c.result.By {
		f.Samples = nil
	}
	for n := range c.o.rounds {
		for k := range c.instances {
			i := c.instances[(n+k)%len(c.instances)]
			s, err := c.round(ctx, c.row, i, c.backend, rate, c.o.time)
			if err != nil {
				return fmt.Errorf("%s: %w", i.Proxy.Name, err)
			}
			if c.o.verbose {
				fmt.Fprintf(os.Stderr, "\n%s %+v", i.Proxy.Name, s)
			}
			f := c.result.By[i.Proxy.Name]
			f.Samples = append(f.Samples, s)
		}
		fmt.Fprint(os.Stderr, ".")
	}
	return nil
}

// full reports whether every proxy's core was busy in the median of the rounds.
func (c *contest) full() bool {
	for name, f := range c.result.By {
		var busy []float64
		for _, s := range f.Samples {
			busy = append(busy, s.Busy)
		}
		if b := stats.Median(busy); b < saturated {
			c.note("%s was %.0f %% busy at most, hence a fixed rate for all", name, 100*b)
			return false
		}
	}
	return true
}

// delays takes the times of requests at a low rate, in turns as well.
func (c *contest) delays(ctx context.Context, rate float64) error {
	const turns = 5
	times := map[string][]float64{}
	for n := range turns {
		for k := range c.instances {
			i := c.instances[(n+k)%len(c.instances)]
			plan := c.row.plan
			plan.Addr = c.row.address(i)
			t, err := c.latencies(ctx, plan, rate, (c.o.samples+turns-1)/turns)
			if err != nil {
				return fmt.Errorf("%s: %w", i.Proxy.Name, err)
			}
			times[i.Proxy.Name] = append(times[i.Proxy.Name], t...)
		}
		fmt.Fprint(os.Stderr, ",")
	}
	for name, t := range times {
		f := c.result.By[name]
		f.P50, f.P99, f.Latencies = stats.Percentile(t, 50), stats.Percentile(t, 99), len(t)
	}
	return nil
}
