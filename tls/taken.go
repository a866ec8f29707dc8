package tls

import "net/netip"

// takenAddress is a host, and a port on it for each kind of validation, where
// certmagic cannot open a listener of its own because one of ours is there. It
// takes one host for both. When ours have none in common it is the wildcard
// address, which the kernel refuses as long as any address has the port.
func takenAddress(plain, secure []netip.AddrPort) (host string, plainPort, securePort int) {
	switch {
	case len(plain) == 0 && len(secure) == 0:
		return "", 0, 0
	case len(plain) == 0:
		return hostOf(secure[0]), 0, int(secure[0].Port())
	case len(secure) == 0:
		return hostOf(plain[0]), int(plain[0].Port()), 0
	}
	for _, p := range plain {
		for _, s := range secure {
			if p.Addr() == s.Addr() {
				return hostOf(p), int(p.Port()), int(s.Port())
			}
		}
	}
	return "", int(plain[0].Port()), int(secure[0].Port())
}

func hostOf(a netip.AddrPort) string { return a.Addr().String() }
