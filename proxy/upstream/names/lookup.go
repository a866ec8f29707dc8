package names

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	maxAddresses = 256         // of a host that are used
	otherFamily  = time.Second // waited for once one family has answered
)

// ErrNotFound is what an Answer of a name fails with that does not exist, or
// has no address that could be dialed.
var ErrNotFound = errors.New("no such name")

// family is the addresses of a host.
type family struct{ v4, v6 []netip.Addr }

// addresses are both families in the one order that a host always has: by the
// precedence of RFC 6724 section 2.1, then by value, so that an answer that a
// server has rotated is the same as before.
func (f family) addresses() []netip.Addr {
	all := slices.Concat(f.v4, f.v6)
	slices.SortFunc(all, func(a, b netip.Addr) int {
		if d := precedence(b) - precedence(a); d != 0 {
			return d
		}
		return a.Compare(b)
	})
	all = slices.Compact(all)
	return all[:min(len(all), maxAddresses)]
}

// precedence is the default policy table of RFC 6724 section 2.1, of which
// only what DNS gives for VMs matters: loopback, IPv6, IPv4, private IPv6.
func precedence(ip netip.Addr) int {
	switch {
	case ip.Is6() && ip.IsLoopback():
		return 50
	case ip.Is4():
		return 35
	case ip.IsPrivate(): // fc00::/7
		return 3
	}
	return 40
}

// look asks for all that a name stands for. No endpoints come with an error;
// endpoints with an error are good ones, but some are missing.
func (r *Resolver) look(ctx context.Context, n *name) ([]Endpoint, time.Duration, error) {
	if n.srv {
		return r.lookService(ctx, n)
	}
	f, ttl, err := r.lookHost(ctx, n.host, n.known[n.host])
	if err != nil {
		return nil, 0, err
	}
	n.known[n.host] = f
	var endpoints []Endpoint
	for _, ip := range f.addresses() {
		endpoints = append(endpoints, Endpoint{Addr: ip})
	}
	return endpoints, ttl, nil
}

// lookHost asks for the addresses of a host; known are the ones of the last
// time. They are never empty without an error.
func (r *Resolver) lookHost(ctx context.Context, host string, known family) (family, time.Duration, error) {
	w := r.files.present()
	bare := strings.ToLower(strings.TrimSuffix(host, "."))
	if f, ok := w.hosts[bare]; ok {
		return f, maxTTL, nil
	}
	if bare == "localhost" || strings.HasSuffix(bare, ".localhost") { // RFC 6761 section 6.3
		return family{[]netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, []netip.Addr{netip.IPv6Loopback()}}, maxTTL, nil
	}
	var f family
	var ttl time.Duration
	err := w.search(host, func(fqdn string) (err error) {
		f, ttl, err = r.lookBoth(ctx, fqdn, known)
		return err
	})
	return f, ttl, err
}

// search tries the names that resolv.conf makes of one until one is found. A
// fault on the way counts more than that the others do not exist; no server
// will answer for the next name who did not for this one.
func (w *world) search(name string, try func(fqdn string) error) error {
	if !fits(dns.Fqdn(name)) {
		return fmt.Errorf("%q is no domain name", name)
	}
	err := error(ErrNotFound)
	for _, fqdn := range w.config.NameList(name) {
		if !fits(fqdn) { // too long with that domain behind it
			continue
		}
		e := try(fqdn)
		if e == nil || errors.Is(e, errSilent) {
			return e
		}
		if !errors.Is(e, ErrNotFound) {
			err = e
		}
	}
	return err
}

// fits reports whether a name can be asked for (RFC 1035 section 2.3.4).
func fits(fqdn string) bool {
	var b [255]byte
	_, err := dns.PackDomainName(fqdn, b[:], 0, nil, false)
	return err == nil
}

// part is the answer for one family.
type part struct {
	addrs []netip.Addr
	ttl   time.Duration
	err   error
	v6    bool
}

// lookBoth asks for A and AAAA at once. What one family fails to answer stays
// as it is known, if the other one has addresses.
func (r *Resolver) lookBoth(ctx context.Context, fqdn string, known family) (family, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := make(chan part, 2)
	go func() { parts <- r.lookFamily(ctx, fqdn, false) }()
	go func() { parts <- r.lookFamily(ctx, fqdn, true) }()
	first := <-parts
	if first.err == nil {
		defer time.AfterFunc(otherFamily, cancel).Stop()
	}
	second := <-parts
	if second.v6 {
		first, second = second, first
	}
	return merge(second, first, known)
}

// merge makes one answer of two parts.
func merge(v4, v6 part, known family) (family, time.Duration, error) {
	f := family{v4.addrs, v6.addrs}
	switch {
	case v4.err == nil && v6.err == nil:
		return f, min(v4.ttl, v6.ttl), nil
	case v4.err == nil && errors.Is(v6.err, ErrNotFound):
		return f, v4.ttl, nil
	case v6.err == nil && errors.Is(v4.err, ErrNotFound):
		return f, v6.ttl, nil
	case v4.err == nil:
		f.v6 = known.v6
		return f, min(v4.ttl, partTTL), nil
	case v6.err == nil:
		f.v4 = known.v4
		return f, min(v6.ttl, partTTL), nil
	case errors.Is(v4.err, ErrNotFound):
		return family{}, 0, v6.err
	}
	return family{}, 0, v4.err
}

// lookFamily asks for the addresses of one family; none is ErrNotFound.
func (r *Resolver) lookFamily(ctx context.Context, fqdn string, v6 bool) part {
	kind := dns.TypeA
	if v6 {
		kind = dns.TypeAAAA
	}
	records, ttl, err := r.ask(ctx, fqdn, kind)
	if err != nil {
		return part{err: err, v6: v6}
	}
	var addrs []netip.Addr
	for _, record := range records {
		if ip := addressOf(record); usable(ip) {
			addrs = append(addrs, ip)
		}
	}
	if len(addrs) == 0 {
		return part{err: ErrNotFound, v6: v6}
	}
	return part{addrs, ttl, nil, v6}
}

func addressOf(record dns.RR) netip.Addr {
	var ip netip.Addr
	switch record := record.(type) {
	case *dns.A:
		ip, _ = netip.AddrFromSlice(record.A)
	case *dns.AAAA:
		ip, _ = netip.AddrFromSlice(record.AAAA)
	}
	return ip.Unmap()
}

// usable reports whether a VM can be there: filtering resolvers answer
// 0.0.0.0, which would be this machine.
func usable(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast()
}
