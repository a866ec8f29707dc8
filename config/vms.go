package config

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"unicode"
)

// readVMs reads the [vms] of one file into all; a name may stand once.
func readVMs(top *table, all map[string]VM) {
	t, _ := top.sub("vms")
	for _, name := range slices.Sorted(maps.Keys(t.values)) {
		vm := VM{Name: strings.Clone(name), Pos: t.report.find(t.at(name))}
		if first, twice := all[name]; twice {
			t.report.add("", t.at(name), "VM %q stands at %s too", name, first.Pos)
			continue
		}
		if reason := badVMName(name); reason != "" {
			t.report.add("", t.at(name), "VM %q: %s", name, reason)
			continue
		}
		vm.Address = vmAddress(t, name)
		all[vm.Name] = vm
	}
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

// vmAddress reads "ADDRESS" or { address = "ADDRESS" }.
func vmAddress(t *table, name string) string {
	inner, key := t, name
	if _, long := t.values[name].(map[string]any); long {
		inner, _ = t.sub(name)
		key, inner.bare = "address", true
		inner.known(inVM)
		if !inner.has("address") {
			t.fault(name, "address is missing")
		}
	}
	text, ok := inner.required(key)
	if !ok {
		return ""
	}
	if strings.Contains(text, "://") {
		inner.fault(key, "%q has a scheme: that stands with the site's backend", text)
		return ""
	}
	if _, port, err := splitAddress(text); err == nil && port != 0 {
		inner.fault(key, "%q has a port: that stands with the site's backend", text)
		return ""
	}
	addr, err := address(text)
	if err != nil {
		inner.fault(key, "%v", err)
	}
	return addr
}
