package config

import (
	"path/filepath"
	"testing"
)

// FuzzLoad checks that no text ends the process, that a refusal has a reason
// and a place, and that what is not refused is whole.
func FuzzLoad(f *testing.F) {
	for _, text := range tomls(f) {
		f.Add(text)
	}
	file := filepath.Join(f.TempDir(), "config.toml")
	f.Fuzz(func(t *testing.T, text string) {
		write(t, file, text)
		c, problems := new(Loader).Load(file)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.Message == "" || p.File == "" {
				t.Errorf("%+v", p)
			}
		}
		if (c == nil) != refuses(problems) {
			t.Fatalf("config %v with %v", c, problems)
		}
		if c == nil {
			return
		}
		hosts := make(map[string]bool)
		for _, s := range c.Sites {
			if hosts[s.Host] || s.Host == "" || s.Pos.Line < 1 {
				t.Errorf("host %q stands twice or nowhere", s.Host)
			}
			hosts[s.Host] = true
			whole(t, s)
		}
		wholeRest(t, c)
		AdminAddress(c.File)
	})
}

// whole checks what holds for every site that is served.
func whole(t *testing.T, s *Site) {
	t.Helper()
	if s.Fault != nil {
		if s.Fault.Site != s.Host {
			t.Errorf("%s has the fault of %q", s.Host, s.Fault.Site)
		}
		return
	}
	if len(s.To) == 0 || s.Timeouts == nil || s.HTTP == "" || (s.Certificate == "") != s.Passthrough() {
		t.Errorf("%+v", s)
	}
	if s.Passthrough() != (s.HTTPPort != 0) || s.Passthrough() == (s.ALPN != "") {
		t.Errorf("%+v", s)
	}
	for _, b := range s.To {
		again, err := parseBackend(b.String(), map[string]VM{b.VM: {Name: b.VM, Address: b.Host}})
		if b.Scheme == Redirect || b.Scheme == Whoami || b.Unix != "" {
			again.VM = b.VM
		}
		again.Weight, again.Backup, again.MaxConns = b.Weight, b.Backup, b.MaxConns
		if err != nil || again != b {
			t.Errorf("%+v is spelled %q, which is %+v, %v", b, b, again, err)
		}
	}
}

// wholeRest checks what holds for every VM and every forward.
func wholeRest(t *testing.T, c *Config) {
	t.Helper()
	for name, vm := range c.VMs {
		if vm.Name != name || (vm.Address == "") != (vm.Discover != nil) || (vm.IdleStop > 0) && vm.Stop == nil ||
			(vm.Stop != nil || vm.StartTimeout > 0) && vm.Start == nil || (vm.RestartEvery > 0) != (vm.Restart != nil) {
			t.Errorf("%+v", vm)
		}
	}
	for _, f := range c.Forwards {
		if len(f.To)+len(f.SNI) == 0 || f.Listen == "" || f.Timeouts == nil || f.Pos.Line < 1 || f.Health != nil && f.Health.Type == "" {
			t.Errorf("%+v", f)
		}
		for _, s := range f.SNI {
			if s.Host == "" || s.Passthrough != (s.Certificate == "") || len(s.To) == 0 || s.Passthrough != (s.To[0].Scheme == Passthrough) {
				t.Errorf("%+v", s)
			}
		}
		for _, list := range f.lists() {
			for _, b := range list {
				if (b.Port == 0) != (b.SRV || b.Unix != "") || b.Weight < 0 || b.Weight > maxWeight {
					t.Errorf("%+v", b)
				}
			}
		}
	}
}
