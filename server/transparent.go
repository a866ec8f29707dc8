package server

import (
	"fmt"
	"net"
	"net/netip"

	"usher/config"
	"usher/proxy/socket"
)

// transparencyFault says what is missing for the client's own address.
func transparencyFault(wanted bool, at config.Position) error {
	if !wanted {
		return nil
	}
	if err := socket.TransparentPossible(); err != nil {
		return fmt.Errorf("%s:%d:%d: transparent = true cannot be used: %w; give it to the process (systemd: CAP_NET_RAW in AmbientCapabilities= and CapabilityBoundingSet=; "+
			"container: --cap-add NET_RAW and as root, or setcap cap_net_bind_service,cap_net_raw+ep on the binary), then restart usher", at.File, at.Line, at.Column, err)
	}
	return nil
}

// edgeRules lead the answers of VMs to a client's own address back into the
// sockets that they belong to: such a packet is marked, and what is marked is
// delivered here although the address is nobody's on this machine. They are for
// a shell, any number of times.
func edgeRules() []string {
	return []string{
		"nft add table inet usher",
		"nft add chain inet usher transparent '{ type filter hook prerouting priority mangle; }'",
		"nft flush chain inet usher transparent",
		"nft add rule inet usher transparent meta l4proto '{ tcp, udp }' socket transparent 1 meta mark set 117",
		"ip rule list fwmark 117 | grep -q . || ip rule add fwmark 117 lookup 117",
		"ip route replace local default dev lo table 117",
		"ip -6 rule list fwmark 117 | grep -q . || ip -6 rule add fwmark 117 lookup 117",
		"ip -6 route replace local default dev lo table 117",
	}
}

// vmRule makes this machine the way out of a VM. The address is this machine's
// in the network of the VM, as far as it can be known.
func vmRule(b config.Backend) string {
	command, gateway := "ip route replace default via ", "ADDRESS-OF-THE-EDGE"
	if ip, err := netip.ParseAddr(b.Host); err == nil {
		if ip.Is6() {
			command = "ip -6 route replace default via "
		}
		if from, ok := facing(ip); ok {
			gateway = from.String()
		}
	}
	return command + gateway
}

// facing is the address that this machine has towards another one. Nothing is
// sent.
func facing(ip netip.Addr) (netip.Addr, bool) {
	c, err := net.Dial("udp", netip.AddrPortFrom(ip, 9).String())
	if err != nil {
		return netip.Addr{}, false
	}
	defer c.Close()
	a, err := netip.ParseAddrPort(c.LocalAddr().String())
	return a.Addr(), err == nil
}

// transparent says what the client's own address needs.
func (e *explainer) transparent(to []config.Backend) {
	e.say("address", "the VM sees the client's own (transparent = true); usher needs CAP_NET_RAW for that, and these rules lead the answers back:")
	for _, rule := range edgeRules() {
		e.say("on the edge", "%s", rule)
	}
	seen := make(map[string]bool)
	for _, b := range to {
		if rule := vmRule(b); !seen[rule] {
			seen[rule] = true
			e.say("on the VM", "%s", rule)
		}
	}
}
