package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"usher/bench/machine"
	"usher/bench/peer"
	"usher/bench/stats"
)

const iperfRounds = 3

// iperf compares iperf3 through a raw port of usher with iperf3 on bare
// loopback. Both ends of iperf3 have one core, usher has the other. A tunnel by
// server name is the same code after the ClientHello, which iperf3 cannot send.
func (l *lab) iperf(ctx context.Context) error {
	tool := peer.Find("iperf3")
	if tool == "" {
		return errors.New("missing: install with\n\tapt-get install --no-install-recommends iperf3")
	}
	ports, err := machine.FreePorts(2)
	if err != nil {
		return err
	}
	bare, raw := ports[0], ports[1]
	server, err := l.starter.Start(machine.Command{Args: []string{tool, "-s", "-B", bare.Addr().String(), "-p", strconv.Itoa(int(bare.Port()))}, Core: l.loadCore})
	if err != nil {
		return err
	}
	l.running = append(l.running, process{server})
	to, err := l.startBackend()
	if err != nil {
		return err
	}
	i, err := l.launch(l.proxies[0], peer.Task{Backend: to.at, Extra: fmt.Sprintf("[[forward]]\nlisten = %q\nto = %q\n", raw, bare)})
	if err != nil {
		return err
	}
	if err := l.served(ctx, i); err != nil {
		return err
	}
	ways := []struct {
		name string
		at   netip.AddrPort
		back bool
	}{{"bare, upload", bare, false}, {"usher, upload", raw, false}, {"bare, download", bare, true}, {"usher, download", raw, true}}
	rates, lost, cpu := make([][]float64, len(ways)), make([]int, len(ways)), make([][]float64, len(ways))
	for range iperfRounds {
		for n, w := range ways {
			before, err := machine.FamilyCPUTime(i.Family())
			if err != nil {
				return err
			}
			bits, retransmits, err := l.iperfRun(ctx, tool, w.at, w.back)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			after, err := machine.FamilyCPUTime(i.Family())
			if err != nil {
				return err
			}
			rates[n], lost[n] = append(rates[n], bits/1e9), lost[n]+retransmits
			cpu[n] = append(cpu[n], 100*(after-before).Seconds()/l.o.duration.Seconds())
			fmt.Printf("%-16s %6.2f Gbit/s %6d retransmits\n", w.name, bits/1e9, retransmits)
		}
	}
	fmt.Println("\nmedians")
	for n, w := range ways {
		fmt.Printf("%-16s %6.2f Gbit/s, %d retransmits in all, usher's core %.0f %%\n", w.name, stats.Median(rates[n]), lost[n], stats.Median(cpu[n]))
	}
	fmt.Printf("usher/bare: upload %.2f, download %.2f\n", stats.Median(rates[1])/stats.Median(rates[0]), stats.Median(rates[3])/stats.Median(rates[2]))
	return nil
}

// iperfRun is one run: bits a second as received, and retransmits of the
// sender.
func (l *lab) iperfRun(ctx context.Context, tool string, at netip.AddrPort, back bool) (bits float64, retransmits int, err error) {
	args := []string{"-c", at.Addr().String(), "-p", strconv.Itoa(int(at.Port())), "-t", strconv.Itoa(max(1, int(l.o.duration/time.Second))), "-O", "1", "-J"}
	if back {
		args = append(args, "-R")
	}
	// The bench is pinned to the core of the load, and so are its children.
	out, err := exec.CommandContext(ctx, tool, args...).Output()
	for n := 0; n < 20 && strings.Contains(string(out), "server is busy") && ctx.Err() == nil; n++ {
		time.Sleep(100 * time.Millisecond) // it is still ending the run before
		out, err = exec.CommandContext(ctx, tool, args...).Output()
	}
	var result struct {
		Error string
		End   struct {
			Sent     struct{ Retransmits int } `json:"sum_sent"`
			Received struct {
				Bits float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if jsonErr := json.Unmarshal(out, &result); err == nil {
		err = jsonErr
	}
	if result.Error != "" {
		err = errors.New(result.Error)
	}
	return result.End.Received.Bits, result.End.Sent.Retransmits, err
}
