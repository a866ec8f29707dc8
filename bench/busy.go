package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"usher/bench/load"
	"usher/bench/share"
)

// busyPlans are 500 connections, each of which has something to do ten times a
// second and is never replaced.
var busyPlans = []load.Plan{
	{Kind: "h1", Size: 1 << 10, Conns: 150, Rate: 1500},
	{Kind: "tls", Size: 1 << 10, Conns: 100, Rate: 1000},
	{Kind: "h2", Size: 1 << 10, Conns: 50, Streams: 2, Rate: 1000},
	{Kind: "ask", Size: 1 << 10, Conns: 200, Rate: 2000},
}

// busy holds them for a time, longer than any timeout of half an hour, and
// fails if one is lost.
func (l *lab) busy(ctx context.Context) error {
	to, err := l.startBackend()
	if err != nil {
		return err
	}
	i, err := l.startProxy(ctx, l.proxies[0], to.at, false)
	if err != nil {
		return err
	}
	var loads []process
	var counts []*share.Counters
	conns := 0
	for _, p := range busyPlans {
		p.Addr = (row{plan: p}).address(i)
		load, count, err := l.generate(p)
		if err != nil {
			return err
		}
		l.running = append(l.running, load)
		loads, counts, conns = append(loads, load), append(counts, count), conns+p.Conns
	}
	fmt.Printf("%d connections for %v\n", conns, l.o.duration)
	begin := time.Now()
	done, failed := uint64(0), uint64(0)
	for minute := time.Duration(1); time.Since(begin) < l.o.duration; minute++ {
		until := begin.Add(min(minute*time.Minute, l.o.duration))
		for n, p := range loads {
			if err := l.sleep(ctx, p, i, time.Until(until)/time.Duration(len(loads)-n)); err != nil {
				return err
			}
		}
		done, failed = 0, 0
		for _, c := range counts {
			done, failed = done+c.Done.Load(), failed+c.Failed.Load()
		}
		fmt.Printf("%9v %12d requests, %d failed\n", time.Since(begin).Round(time.Second), done, failed)
	}
	for n, p := range loads {
		if out := p.Output(); out != "" {
			fmt.Printf("%s: %s\n", busyPlans[n].Kind, out)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d requests failed", failed)
	}
	if done == 0 {
		return errors.New("nothing was done")
	}
	fmt.Println("no connection was lost")
	return nil
}
