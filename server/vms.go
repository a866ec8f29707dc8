package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"usher/proxy/upstream"
	"usher/proxy/upstream/health"
	"usher/server/admin"
	"usher/vm"
)

// VMs implements admin.Source: one entry for each address that work is sent
// to.
func (s *Server) VMs() []admin.VM {
	w := s.world.Load()
	byAddress := make(map[string]*admin.VM)
	for _, b := range w.sites {
		count(byAddress, b.site.EachPool)
	}
	for _, f := range w.snapshot.Forwards {
		count(byAddress, f.EachPool)
	}
	w.snapshot.Pools.Each(func(p *upstream.Pool) {
		for _, k := range p.Look() {
			if v := byAddress[k.String()]; v != nil {
				add(v, k.State())
			}
		}
	})
	machines := make(map[string]*vm.Status)
	for _, m := range s.fleet.Status() {
		machines[m.Name] = &m
	}
	for _, v := range byAddress {
		if m := machines[v.Name]; m != nil {
			live(v, m)
		}
	}
	all := make([]admin.VM, 0, len(byAddress))
	for _, v := range byAddress {
		all = append(all, *v)
	}
	slices.SortFunc(all, func(a, b admin.VM) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Address, b.Address))
	})
	return all
}

// count notes the addresses that a site or a raw port has, each once.
func count(all map[string]*admin.VM, eachPool func(func(*upstream.Pool))) {
	seen := make(map[string]bool)
	eachPool(func(p *upstream.Pool) {
		for _, k := range p.Look() {
			a := k.String()
			if seen[a] {
				continue
			}
			seen[a] = true
			if all[a] == nil {
				all[a] = &admin.VM{Address: a}
			}
			all[a].Sites++
		}
	})
}

// add merges what one pool knows of an address: counts are summed, of states
// the worst is shown, and of latencies the longest.
func add(v *admin.VM, s upstream.State) {
	if v.Name == "" {
		v.Name = s.VM
	}
	if s.Source != s.Address {
		v.Source = s.Source
	}
	if v.Health == "" || severity(s.Status) > severity(v.Health) {
		v.Health, v.Why, v.Since = s.Status, s.Why, s.Since
	}
	v.Active += int(s.Active)
	v.Idle += s.Idle
	v.Limit = max(v.Limit, int(s.Limit))
	v.Requests += s.Exchanges
	v.Failures += s.Failures
	v.Ejections += s.Ejections
	v.Retries += s.Retries
	v.P50 = max(v.P50, s.Latency.P50.Seconds())
	v.P90 = max(v.P90, s.Latency.P90.Seconds())
	v.P99 = max(v.P99, s.Latency.P99.Seconds())
	if c := s.Checks; !c.Last.IsZero() {
		addCheck(v, c)
	}
	if s.LastError != "" && !s.FailedAt.Before(v.FailedAt) {
		v.LastError, v.FailedAt = s.LastError, s.FailedAt
	}
}

// severity orders what can be said of a backend; the unlisted are not worth
// a look.
func severity(status string) int {
	return slices.Index([]string{"unknown", "healthy", "starting slowly", "probing", "off", "ejected", "unhealthy", "unresolved", "drained"}, status)
}

// addCheck notes one check of an address; the same one is not told twice.
func addCheck(v *admin.VM, c health.Status) {
	check := admin.Check{
		What: c.Checked, State: c.State.String(), Since: c.Since, Reason: c.Reason, Last: c.Last, Took: c.Took.Seconds(),
		Passed: c.Passed, Failed: c.Failed,
	}
	if !slices.ContainsFunc(v.Checks, func(k admin.Check) bool {
		return k.What == check.What && k.State == check.State && k.Reason == check.Reason
	}) {
		v.Checks = append(v.Checks, check)
	}
}

// live adds the life of the machine, of which a sleep says more than that its
// address does not answer.
func live(v *admin.VM, m *vm.Status) {
	v.Machine = &admin.Machine{State: m.State, Since: m.Since, Why: m.Why, Drained: m.Drained, StopsAt: m.StopsAt, NextStart: m.NextStart, RestartsAt: m.RestartsAt}
	if h := m.Hook; h != nil {
		v.Machine.Hook = hookLine(h)
	}
	if m.Discovered {
		v.Machine.LookedFor, v.Machine.LookError = m.Looked, m.LookErr
	}
}

func hookLine(h *vm.HookResult) string {
	line := fmt.Sprintf("%s at %s took %.1fs", h.Hook, h.Began.Format("15:04:05"), h.Took.Seconds())
	if h.Err != "" {
		line += ": " + h.Err
	}
	return line
}
