package discover

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"usher/vm/command"
)

// libvirt asks libvirt through virsh, which has to be installed.
type libvirt struct{ spec Spec }

func newLibvirt(s Spec) *libvirt {
	if s.Domain == "" {
		s.Domain = s.Name
	}
	return &libvirt{s}
}

// Addresses asks for leases of libvirt's own networks first, then the guest's
// agent, then the host's ARP table.
func (l *libvirt) Addresses(ctx context.Context) ([]netip.Addr, error) {
	var faults []error
	for _, from := range []string{"lease", "agent", "arp"} {
		addresses, err := l.from(ctx, from)
		if len(addresses) > 0 {
			return addresses, nil
		}
		if err == nil {
			faults = append(faults, errors.New("no "+from))
			continue
		}
		if len(faults) == 0 { // is there a domain to ask about at all?
			switch state, problem := l.state(ctx); {
			case problem != nil:
				return nil, problem
			case !running(state):
				return nil, offf("domain %q is %s", l.spec.Domain, state)
			}
		}
		faults = append(faults, err)
	}
	return nil, fmt.Errorf("no address of domain %q yet: %w", l.spec.Domain, errors.Join(faults...))
}

// from asks one of virsh's sources.
func (l *libvirt) from(ctx context.Context, from string) ([]netip.Addr, error) {
	listed, err := l.virsh(ctx, "domifaddr", "--domain", l.spec.Domain, "--full", "--source", from)
	if err != nil {
		return nil, err
	}
	found := parseDomifaddr(string(listed))
	if l.spec.Network == "" && from != "agent" || len(found) == 0 {
		return ofGuest(pick(found, nil)), nil
	}
	listed, err = l.virsh(ctx, "domiflist", "--domain", l.spec.Domain)
	if err != nil {
		return nil, err
	}
	macs := parseDomiflist(string(listed), l.spec.Network)
	if len(macs) == 0 && l.spec.Network != "" {
		return nil, fmt.Errorf("domain %q has no interface in network %q", l.spec.Domain, l.spec.Network)
	}
	return ofGuest(pick(found, macs)), nil
}

// state is what virsh calls the domain's state.
func (l *libvirt) state(ctx context.Context) (string, error) {
	printed, err := l.virsh(ctx, "domstate", "--domain", l.spec.Domain)
	if err != nil && strings.Contains(err.Error(), "failed to get domain") {
		return "", offf("there is no domain %q", l.spec.Domain)
	}
	return strings.TrimSpace(string(printed)), err
}

// running reports whether a domain in a state exists in memory.
func running(state string) bool { return state != "shut off" && state != "crashed" }

func (l *libvirt) virsh(ctx context.Context, args ...string) ([]byte, error) {
	argv := []string{"virsh", "--quiet"}
	if l.spec.URI != "" {
		argv = append(argv, "--connect", l.spec.URI)
	}
	return command.Output(ctx, append(argv, args...), []string{"LC_ALL=C", "USHER_VM=" + l.spec.Name})
}

// found is an address and the interface that has it.
type found struct {
	mac  string
	addr netip.Addr
}

// pick is the addresses of the interfaces that have one of the MAC addresses;
// of all if macs is nil.
func pick(all []found, macs []string) []netip.Addr {
	var picked []netip.Addr
	for _, f := range all {
		if macs == nil || slices.Contains(macs, f.mac) {
			picked = append(picked, f.addr)
		}
	}
	return picked
}

// parseDomifaddr reads what `virsh domifaddr --full` prints: on each line a
// name, which may hold spaces, a MAC address, a protocol and an address.
func parseDomifaddr(text string) []found {
	var all []found
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		n := len(fields)
		if n < 4 || fields[n-2] != "ipv4" && fields[n-2] != "ipv6" {
			continue
		}
		if a, ok := parseAddress(fields[n-1]); ok {
			all = append(all, found{parseMAC(fields[n-3]), a})
		}
	}
	return all
}

// parseDomiflist reads the MAC addresses from what `virsh domiflist` prints: on
// each line the interface, type, source, model and MAC address. If network is
// not empty, the source has to be that. The result is not nil.
func parseDomiflist(text, network string) []string {
	macs := []string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		n := len(fields)
		if n < 5 {
			continue
		}
		source := strings.Join(fields[2:n-2], " ")
		if mac := parseMAC(fields[n-1]); mac != "" && (network == "" || source == network) {
			macs = append(macs, mac)
		}
	}
	return macs
}
