package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"usher/bench/report"
)

// bench is a whole run.
func (o *options) bench(ctx context.Context) error {
	if o.list {
		for _, e := range entries() {
			fmt.Printf("%-12s %s\n", e.id, e.name)
		}
		return nil
	}
	l, err := newLab(ctx, o)
	if err != nil {
		return err
	}
	defer l.close()
	run := &report.Run{Time: time.Now(), Machine: processor(), Kernel: kernel(), Cores: [2]int{l.proxyCore, l.loadCore}, Others: loadAverage(), TCP: congestionControl(), Versions: map[string]string{}, Quick: o.quick, Rounds: o.rounds, Seconds: o.time.Seconds()}
	for _, p := range l.proxies {
		run.Proxies = append(run.Proxies, p.Name)
		run.Versions[p.Name] = p.Version()
	}
	for _, e := range entries() {
		if !o.wants(e.id, !e.slow) {
			continue
		}
		fmt.Fprintf(os.Stderr, "%-38s", e.name)
		begin := time.Now()
		results := e.measure(l, ctx)
		l.stopAll()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		run.Rows = append(run.Rows, results...)
		fmt.Fprintf(os.Stderr, " %.0fs\n", time.Since(begin).Seconds())
	}
	run.Table(os.Stdout)
	if err := run.Write(o.json); err != nil {
		return err
	}
	fmt.Printf("\nEverything measured: %s\n", o.json)
	if o.chart != "" {
		if err := run.Chart(o.chart); err != nil {
			return err
		}
	}
	for _, r := range run.Rows {
		if r.Fault != "" {
			return errors.New("there were faults")
		}
	}
	return nil
}

// processor names the CPU and how many of it there are.
func processor() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	n := strings.Count("\n"+string(text), "\nprocessor")
	_, rest, _ := strings.Cut(string(text), "model name")
	_, rest, _ = strings.Cut(rest, ": ")
	name, _, _ := strings.Cut(rest, "\n")
	return fmt.Sprintf("%s, %d cores", name, n)
}

func kernel() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// loadAverage is that of the last minute.
func loadAverage() (n float64) {
	text, _ := os.ReadFile("/proc/loadavg")
	fmt.Sscan(string(text), &n)
	return n
}

func congestionControl() string {
	text, _ := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	return strings.TrimSpace(string(text))
}
