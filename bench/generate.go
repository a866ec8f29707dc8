package main

import (
	"encoding/json"
	"fmt"
	"syscall"
	"time"

	"usher/bench/backend"
	"usher/bench/load"
	"usher/bench/machine"
	"usher/bench/share"
)

// farSide is a running backend, which is where floods run as well.
type farSide struct {
	process
	at    backend.Addresses
	count *share.Counters
	sent  uint64 // commands
}

// startBackend starts a backend of its own counters.
func (l *lab) startBackend() (*farSide, error) {
	ports, err := machine.FreePorts(3)
	if err != nil {
		return nil, err
	}
	at := backend.Addresses{HTTP: ports[0], Once: ports[1], Ask: ports[2]}
	file := l.file("backend")
	count, err := share.Create(file)
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(at)
	if err != nil {
		return nil, err
	}
	p, err := l.starter.Start(machine.Command{Args: []string{l.self, "backend", string(arg), file}, Env: []string{"GOMAXPROCS=1"}, Core: l.loadCore, Stdin: true})
	if err != nil {
		return nil, err
	}
	b := &farSide{process: process{p}, at: at, count: count}
	l.running = append(l.running, b)
	return b, nil
}

// command has the backend do something and waits until it has.
func (b *farSide) command(line []byte) error {
	if err := b.Send(line); err != nil {
		return err
	}
	b.sent++
	for n := 0; b.count.Commands.Load() < b.sent; n++ {
		select {
		case <-b.Exited():
			return fmt.Errorf("the backend ended: %s", b.Output())
		case <-time.After(time.Millisecond):
		}
		if n > 20_000 {
			return fmt.Errorf("the backend does not listen: %s", b.Output())
		}
	}
	return nil
}

// generator is a source of load.
type generator interface {
	Exited() <-chan struct{}
	Output() string
	Stop()
	Family() []int
}

// process is something that SIGTERM ends.
type process struct{ *machine.Process }

func (p process) Stop() { p.Process.Stop(syscall.SIGTERM) }

// flood is a generator in the thread of a backend.
type flood struct{ *farSide }

func (f flood) Stop() { f.command([]byte("stop")) }

// complete fills in what a plan of ours needs and makes its counters.
func (l *lab) complete(p *load.Plan) (*share.Counters, []byte, error) {
	switch p.Kind {
	case "once":
		p.Hello = l.hellos[load.OnceName]
	case "ask":
		p.Hello = l.hellos[load.AskName]
	}
	p.Counters = l.file("load")
	count, err := share.Create(p.Counters)
	if err != nil {
		return nil, nil, err
	}
	arg, err := json.Marshal(p)
	return count, arg, err
}

// generate starts a load generator of ours in a process.
func (l *lab) generate(p load.Plan) (process, *share.Counters, error) {
	count, arg, err := l.complete(&p)
	if err != nil {
		return process{}, nil, err
	}
	started, err := l.starter.Start(machine.Command{Args: []string{l.self, "load", string(arg)}, Env: []string{"GOMAXPROCS=1"}, Core: l.loadCore})
	return process{started}, count, err
}

// saturate starts what keeps a proxy busy: a flood in the backend if there is
// one of the kind.
func (l *lab) saturate(b *farSide, p load.Plan) (generator, *share.Counters, error) {
	if !p.Floods() {
		return l.generate(p)
	}
	count, arg, err := l.complete(&p)
	if err != nil {
		return nil, nil, err
	}
	return flood{b}, count, b.command(arg)
}
