package names

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	maxTargets  = 64  // of a service that are used
	weightScale = 100 // see weigh
)

// target is an SRV record and what it was resolved to.
type target struct {
	priority, weight, port uint16
	host                   string
	addresses              family
	ttl                    time.Duration
	err                    error
}

// lookService asks for SRV records and for the addresses of their targets. A
// target that cannot be resolved keeps its last addresses; one that never
// could be is left out. Either is an error beside the endpoints.
func (r *Resolver) lookService(ctx context.Context, n *name) ([]Endpoint, time.Duration, error) {
	var targets []target
	var ttl time.Duration
	err := r.files.present().search(n.host, func(fqdn string) (err error) {
		var records []dns.RR
		if records, ttl, err = r.ask(ctx, fqdn, dns.TypeSRV); err == nil {
			targets, err = targetsOf(records)
		}
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	r.lookTargets(ctx, targets, n.known)
	clear(n.known)
	var errs []error
	for i := range targets {
		t := &targets[i]
		ttl = min(ttl, t.ttl)
		if t.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.host, t.err))
		}
		if len(t.addresses.v4)+len(t.addresses.v6) > 0 {
			n.known[t.host] = t.addresses
		}
	}
	return endpointsOf(targets), ttl, oneLine(errs)
}

// oneLine is the first of some errors and how many more there are.
func oneLine(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w (and %d more)", errs[0], len(errs)-1)
}

// lookTargets resolves all targets at once.
func (r *Resolver) lookTargets(ctx context.Context, targets []target, known map[string]family) {
	var lookups sync.WaitGroup
	defer lookups.Wait()
	for i := range targets {
		t := &targets[i]
		before := known[t.host]
		lookups.Go(func() {
			if t.addresses, t.ttl, t.err = r.lookHost(ctx, t.host, before); t.err != nil {
				t.addresses, t.ttl = before, partTTL
			}
		})
	}
}

// targetsOf reads SRV records, the most wanted first and else in an order that
// does not change with the server's.
func targetsOf(records []dns.RR) ([]target, error) {
	var targets []target
	for _, record := range records {
		srv, ok := record.(*dns.SRV)
		if !ok || srv.Target == "." || srv.Port == 0 { // ".": the service is decidedly not there
			continue
		}
		targets = append(targets, target{priority: srv.Priority, weight: srv.Weight, port: srv.Port, host: strings.ToLower(srv.Target)})
	}
	if len(targets) == 0 {
		return nil, ErrNotFound
	}
	slices.SortFunc(targets, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.host, b.host), cmp.Compare(a.port, b.port))
	})
	return targets[:min(len(targets), maxTargets)], nil
}

// endpointsOf are the addresses of all targets. Those behind the best priority
// that has any are backups.
func endpointsOf(targets []target) (endpoints []Endpoint) {
	best := -1
	for start := 0; start < len(targets); {
		end := start
		for end < len(targets) && targets[end].priority == targets[start].priority {
			end++
		}
		group := weigh(targets[start:end])
		if len(group) > 0 && best < 0 {
			best = int(targets[start].priority)
		}
		for _, e := range group {
			e.Backup = int(targets[start].priority) != best
			if len(endpoints) < maxAddresses && !slices.ContainsFunc(endpoints, e.same) {
				endpoints = append(endpoints, e)
			}
		}
		start = end
	}
	return endpoints
}

func (e Endpoint) same(other Endpoint) bool { return e.Addr == other.Addr && e.Port == other.Port }

// weigh gives the targets of one priority to their addresses. Weights stay as
// they are, and all 0 means equal, unless that would be unfair: a target's
// weight is shared by its addresses, and one of 0 beside others gets next to
// nothing, as RFC 2782 wants. Then all are scaled so that shares can be told.
func weigh(group []target) (endpoints []Endpoint) {
	var largest uint16
	addresses, fair := 0, true
	for _, t := range group {
		largest = max(largest, t.weight)
		if n := len(t.addresses.addresses()); n > 0 {
			fair = fair && (addresses == 0 || addresses == n)
			addresses = n
		}
	}
	for _, t := range group {
		fair = fair && (t.weight > 0 || largest == 0)
	}
	scale := min(weightScale, 65535/max(int(largest), 1))
	for _, t := range group {
		list := t.addresses.addresses()
		weight := t.weight
		if !fair && largest == 0 {
			weight = 1
		}
		for _, ip := range list {
			e := Endpoint{Addr: ip, Port: t.port, Weight: weight}
			if !fair {
				e.Weight = uint16(max(int(weight)*scale/len(list), 1))
			}
			endpoints = append(endpoints, e)
		}
	}
	return endpoints
}
