package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// vms reads the [vms] of one file into all; a name may stand once.
func (b *builder) vms(top *table, all map[string]VM) {
	t, _ := top.sub("vms")
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		if first, twice := all[name]; twice {
			t.report.add("", t.at(name), "VM %q stands at %s too", name, first.Pos)
			continue
		}
		if reason := badVMName(name); reason != "" {
			t.report.add("", t.at(name), "VM %q: %s", name, reason)
			continue
		}
		vm := b.vm(t, strings.Clone(name))
		all[vm.Name] = vm
	}
}

// vm reads "ADDRESS" or { address = "ADDRESS", … }.
func (b *builder) vm(t *table, name string) VM {
	v := VM{Name: name, Pos: t.report.find(t.at(name))}
	if _, long := t.values[name].(map[string]any); !long {
		v.Address = vmAddress(t, name)
		return v
	}
	inner, _ := t.sub(name)
	inner.bare = true
	inner.known(inVM)
	switch {
	case inner.has("address") && inner.has("discover"):
		inner.fault("discover", "excludes address: it is what finds the address")
	case inner.has("address"):
		v.Address = vmAddress(inner, "address")
	case inner.has("discover"):
		v.Discover = b.discover(inner, name)
	default:
		t.fault(name, "address is missing, or discover")
	}
	inner.integer("max_conns", &v.MaxConns, 0, maxConns)
	var off bool
	if v.Health, off = b.health(inner); off {
		inner.fault("health", "false belongs to a site; leave it out here")
	}
	v.hooks(inner)
	if v.Restart != nil && v.Health == nil { // nothing else would notice that it hangs
		v.Health = intern(b.shared.health, defaultHealth())
	}
	return v
}

// badVMName says why a name could not be told from an address.
func badVMName(name string) string {
	if _, err := netip.ParseAddr(name); err == nil {
		return "a name must not be an IP address"
	}
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("-_.", r)
	}
	if name == "" || strings.ContainsFunc(name, odd) {
		return `a name is letters, digits, "-", "_" and "."`
	}
	return ""
}

// vmAddress reads the address of a VM.
func vmAddress(t *table, key string) string {
	text, ok := t.required(key)
	if !ok {
		return ""
	}
	if strings.Contains(text, "://") {
		t.fault(key, "%q has a scheme: that stands with the site's backend", text)
		return ""
	}
	if _, port, err := splitAddress(text); err == nil && port != 0 {
		t.fault(key, "%q has a port: that stands with the site's backend", text)
		return ""
	}
	if service(text) {
		t.fault(key, "%q is the name of SRV records: that stands with the site's backend", text)
		return ""
	}
	addr, err := address(text)
	if err != nil {
		t.fault(key, "%v", err)
	}
	return addr
}
