package server

import (
	"net"
	"net/netip"
	"sync/atomic"
	"time"
)

// machine knows the addresses of this machine. It is asked whenever a backend
// has the port of a listener, which is every connection to a VM's port 443, and
// asking the kernel costs more than a connection does.
type machine struct{ known atomic.Pointer[machineAddrs] }

type machineAddrs struct {
	set   map[netip.Addr]bool
	until time.Time
}

const machineTTL = 5 * time.Second

// has reports whether an address is one of this machine's.
func (m *machine) has(a netip.Addr) bool {
	if a.IsLoopback() || a.IsUnspecified() {
		return true
	}
	k := m.known.Load()
	if k == nil || time.Now().After(k.until) {
		k = &machineAddrs{interfaceAddrs(), time.Now().Add(machineTTL)}
		m.known.Store(k)
	}
	return k.set[a.WithZone("")]
}

func interfaceAddrs() map[netip.Addr]bool {
	set := make(map[netip.Addr]bool)
	list, _ := net.InterfaceAddrs() // what cannot be asked is nobody's address
	for _, x := range list {
		if p, err := netip.ParsePrefix(x.String()); err == nil {
			set[p.Addr().Unmap()] = true
		}
	}
	return set
}
