package discover

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// ofGuest is what counts of the addresses that a guest has: those that can be
// reached from outside of it, of one family, IPv4 if there is any; sorted, each
// once.
func ofGuest(all []netip.Addr) []netip.Addr {
	outside := slices.DeleteFunc(tidy(all), netip.Addr.IsLoopback)
	if slices.ContainsFunc(outside, netip.Addr.Is4) {
		outside = slices.DeleteFunc(outside, netip.Addr.Is6)
	}
	return outside
}

// tidy sorts addresses, leaves out what cannot be a backend and what is there
// twice.
func tidy(all []netip.Addr) []netip.Addr {
	usable := make([]netip.Addr, 0, len(all))
	for _, a := range all {
		a = a.Unmap().WithZone("")
		if a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() {
			usable = append(usable, a)
		}
	}
	slices.SortFunc(usable, netip.Addr.Compare)
	return slices.Compact(usable)
}

// parseAddress reads an address with or without the length of its network.
func parseAddress(text string) (netip.Addr, bool) {
	text, _, _ = strings.Cut(text, "/")
	a, err := netip.ParseAddr(text)
	return a, err == nil
}

// parseMAC is the usual form of a MAC address, or nothing if it is none. libvirt
// drops leading zeros of some guests' ("0:0:0:0:0:0").
func parseMAC(text string) string {
	octets := strings.FieldsFunc(text, func(r rune) bool { return r == ':' || r == '-' })
	if len(octets) != 6 {
		return ""
	}
	for i, o := range octets {
		if len(o) == 1 {
			octets[i] = "0" + o
		}
	}
	mac, err := net.ParseMAC(strings.Join(octets, ":"))
	if err != nil {
		return ""
	}
	return mac.String()
}
