package names

import (
	"bytes"
	"net/netip"
	"strings"
)

// parseHosts reads hosts(5): an address and its names on each line. Lines that
// are not like that are left out, as every resolver does.
func parseHosts(b []byte) map[string]family {
	hosts := map[string]family{}
	for line := range bytes.Lines(b) {
		line, _, _ = bytes.Cut(line, []byte("#"))
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		ip, err := netip.ParseAddr(fields[0])
		if ip = ip.Unmap(); err != nil || !usable(ip) {
			continue
		}
		for _, name := range fields[1:] {
			name = strings.ToLower(strings.TrimSuffix(name, "."))
			f := hosts[name]
			if ip.Is4() {
				f.v4 = append(f.v4, ip)
			} else {
				f.v6 = append(f.v6, ip)
			}
			hosts[name] = f
		}
	}
	return hosts
}
