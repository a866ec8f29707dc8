package server

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"usher/config"
	"usher/server/admin"
	"usher/vm"
	"usher/vm/discover"
)

// machine is the VM of a backend: of its name in [vms], or of its bare address
// once somebody has drained that. Most backends of a large configuration have
// none.
func (b *builder) machine(a config.Backend) *vm.Machine {
	switch {
	case a.VM != "":
		return b.fleet.Machine(a.VM)
	case a.Host != "" && b.addressed[a.Host]:
		return b.fleet.Machine(a.Host)
	}
	return nil
}

// specsOf are the VMs of a configuration: those of [vms], and the addresses
// that somebody has drained.
func specsOf(c *config.Config, addressed map[string]bool) (specs []vm.Spec) {
	for host := range addressed {
		if _, named := c.VMs[host]; !named && hasHost(c, host) {
			specs = append(specs, vm.Spec{Name: host})
		}
	}
	for _, v := range c.VMs {
		specs = append(specs, vm.Spec{
			Name: v.Name, Start: v.Start, Stop: v.Stop, Restart: v.Restart,
			StartTimeout: v.StartTimeout, IdleStop: v.IdleStop, RestartAfter: v.RestartAfter, RestartEvery: v.RestartEvery,
			Discover: discoverOf(v.Name, v.Discover),
		})
	}
	return specs
}

func discoverOf(name string, d *config.Discover) *discover.Spec {
	if d == nil {
		return nil
	}
	return &discover.Spec{
		Source: d.Source, Name: name, Interval: d.Interval, Domain: d.Domain, URI: d.URI,
		URL: d.URL, Token: d.Token, Node: d.Node, VMID: d.VMID, CAFile: d.CAFile, Insecure: d.Insecure,
		Socket: d.Socket, Container: d.Container, Label: d.Label, Network: d.Network, Command: d.Command,
	}
}

// happened says in the log what became of a VM.
func (s *Server) happened(e vm.Event) {
	line := s.log.Info()
	if e.Err != nil {
		line = s.log.Warn().Err(e.Err)
	}
	if e.Took > 0 {
		line = line.Dur("took", e.Took)
	}
	if e.Output != "" {
		line = line.Str("output", e.Output)
	}
	line.Str("vm", e.VM).Msg(e.Text)
}

// Drain implements admin.Source. A VM is named as in [vms], or by the address
// that sites have for it.
func (s *Server) Drain(name string, drained bool) (admin.Drained, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	w := s.world.Load()
	if _, named := w.config.VMs[name]; !named && !s.addressed[name] {
		if !hasHost(w.config, name) {
			return admin.Drained{}, unknownVM(w.config, name)
		}
		if err := s.address(name); err != nil {
			return admin.Drained{}, err
		}
	}
	change := s.fleet.Undrain
	if drained {
		change = s.fleet.Drain
	}
	if err := change(name); err != nil {
		return admin.Drained{}, err
	}
	return admin.Drained{VM: name, Drained: drained, Active: int(s.fleet.Machine(name).Status().Active)}, nil
}

// address makes a bare address something that can be drained: the sites that
// have it are built anew.
func (s *Server) address(host string) error {
	if s.draining.Load() {
		return fmt.Errorf("usher is stopping")
	}
	s.addressed = maps.Clone(s.addressed)
	s.addressed[host] = true
	w := s.world.Load()
	if err := s.apply(s.work, w.config, w); err != nil {
		delete(s.addressed, host)
		return err
	}
	return nil
}

// eachBackend calls f for every backend of a configuration until it returns
// false.
func eachBackend(c *config.Config, f func(config.Backend) bool) {
	lists := func(yield func([]config.Backend) bool) {
		for _, s := range c.Sites {
			if !yield(s.To) {
				return
			}
			for _, p := range s.Paths {
				if !yield(p.To) {
					return
				}
			}
		}
		for _, w := range c.Forwards {
			if !yield(w.To) {
				return
			}
			for _, n := range w.SNI {
				if !yield(n.To) {
					return
				}
			}
		}
	}
	for list := range lists {
		for _, b := range list {
			if !f(b) {
				return
			}
		}
	}
}

// hasHost reports whether some backend has an address.
func hasHost(c *config.Config, host string) (found bool) {
	eachBackend(c, func(b config.Backend) bool {
		found = b.VM == "" && b.Host == host && b.Scheme != config.Redirect
		return !found
	})
	return found
}

func unknownVM(c *config.Config, name string) error {
	names := slices.Sorted(maps.Keys(c.VMs))
	if len(names) == 0 {
		return fmt.Errorf("there is no VM %q: no site has that address, and [vms] is empty", name)
	}
	if len(names) > 20 {
		names = append(names[:20], "…")
	}
	return fmt.Errorf("there is no VM %q: it is neither in [vms] (%s) nor the address of a site", name, strings.Join(names, ", "))
}
