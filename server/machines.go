package server

import (
	"cmp"
	"fmt"
	"maps"
	"net"
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

// specs are the VMs of a generation: those of [vms], and the addresses that
// somebody has drained.
func (w *world) specs() (specs []vm.Spec) {
	for host := range w.addressed {
		if _, named := w.vms[host]; !named && w.hasHost(host) {
			specs = append(specs, vm.Spec{Name: host})
		}
	}
	for _, v := range w.vms {
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
	w, before := s.world.Load(), 0
	if _, named := w.vms[name]; !named && !s.addressed[name] {
		if !w.hasHost(name) {
			return admin.Drained{}, unknownVM(w.config, name)
		}
		before = s.activeAt(name) // which nobody counts for the machine
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
	return admin.Drained{VM: name, Drained: drained, Active: before + int(s.fleet.Machine(name).Status().Active)}, nil
}

// activeAt is how many exchanges and tunnels an address has.
func (s *Server) activeAt(host string) (n int) {
	for _, v := range s.VMs() {
		at, _, _ := net.SplitHostPort(cmp.Or(v.Source, v.Address))
		if at == host {
			n += v.Active
		}
	}
	return n
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
	if _, err := s.apply(s.work, w.config, w); err != nil {
		delete(s.addressed, host)
		return err
	}
	return nil
}

// eachBackend calls f for every backend until it returns false, and reports
// whether it never did. Those of a site in its last good form are of that.
func (w *world) eachBackend(f func(config.Backend) bool) bool {
	for _, s := range w.sites {
		if !s.eachBackend(f) {
			return false
		}
	}
	for _, c := range w.config.Forwards {
		if !each(c.To, f) {
			return false
		}
		for _, n := range c.SNI {
			if !each(n.To, f) {
				return false
			}
		}
	}
	return true
}

func (s *built) eachBackend(f func(config.Backend) bool) bool {
	for _, p := range s.form.Paths {
		if !each(p.To, f) {
			return false
		}
	}
	return each(s.form.To, f)
}

func each(list []config.Backend, f func(config.Backend) bool) bool {
	return !slices.ContainsFunc(list, func(b config.Backend) bool { return !f(b) })
}

// hasHost reports whether some backend has an address.
func (w *world) hasHost(host string) (found bool) {
	w.eachBackend(func(b config.Backend) bool {
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
