// Command bench measures usher beside HAProxy, nginx, Caddy and sniproxy, all in
// one run on the same two cores, and prints one table.
//
//	bench [-rows IDs] [-rounds N] [-time D] [-quick] [-json FILE] [-chart FILE]
//	      [-usher PATH] [-usher2 PATH] [-peers NAMES] [-nice N]
//	bench soak [-for 10m]     half of what usher can do, with reloads every 10 s
//	bench busy [-for 31m]     500 connections that are never idle for long
//	bench iperf [-for 10s]    iperf3 through a raw port and without
//	bench chart JSON PNG      draw a run again
//
// The figure of a row is the CPU time of the proxy for a unit of work near
// saturation. docs/performance.md has the method. It exits with 1 on a fault,
// not when a goal is missed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"usher/bench/backend"
	"usher/bench/epoll"
	"usher/bench/load"
	"usher/bench/report"
	"usher/bench/share"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run dispatches: load and backend are what the bench starts itself as, which
// any signal ends at once.
func run(args []string) error {
	if len(args) > 1 {
		switch args[0] {
		case "load":
			var p load.Plan
			if err := json.Unmarshal([]byte(args[1]), &p); err != nil {
				return err
			}
			return p.Run()
		case "backend":
			var a backend.Addresses
			if err := json.Unmarshal([]byte(args[1]), &a); err != nil {
				return err
			}
			count, err := share.Open(args[2])
			if err != nil {
				return err
			}
			return backend.Run(a, count, newFlood)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := measure(ctx, args); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted")
		}
		return err
	}
	return nil
}

func newFlood(plan []byte, loop *epoll.Loop) (backend.Flood, error) {
	var p load.Plan
	if err := json.Unmarshal(plan, &p); err != nil {
		return nil, err
	}
	return load.NewFlood(p, loop)
}

// measure does what the command line says.
func measure(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "soak":
			return withUsher(ctx, "soak", 10*time.Minute, args[1:], (*lab).soak)
		case "busy":
			return withUsher(ctx, "busy", 31*time.Minute, args[1:], (*lab).busy)
		case "iperf":
			return withUsher(ctx, "iperf", 10*time.Second, args[1:], (*lab).iperf)
		case "chart":
			if len(args) != 3 {
				return errors.New("usage: bench chart JSON PNG")
			}
			r, err := report.Read(args[1])
			if err != nil {
				return err
			}
			return r.Chart(args[2])
		}
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	return o.bench(ctx)
}

// withUsher runs what needs no peer.
func withUsher(ctx context.Context, name string, duration time.Duration, args []string, do func(*lab, context.Context) error) error {
	o, err := alone(name, duration, args)
	if err != nil {
		return err
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	return do(l, ctx)
}
