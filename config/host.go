package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"usher/router"
)

// pattern is the router's key of a host as [sites] spells it.
func pattern(host string) (string, error) {
	if i := strings.Index(host, "://"); i >= 0 {
		return "", fmt.Errorf("%q: a site is a hostname, without a scheme", host)
	}
	if strings.Contains(host, "/") {
		return "", fmt.Errorf("%q: a site is a hostname; paths have a table of their own, [sites.\"HOST\".paths]", host)
	}
	if rest := strings.TrimPrefix(host, "*."); host != "*" && strings.Contains(rest, "*") {
		return "", fmt.Errorf(`%q: a wildcard is "*" alone or one "*." in front of a name`, host)
	}
	var buf [router.MaxHost]byte
	key, err := router.Pattern(buf[:0], []byte(host))
	return string(key), err
}

// wildcard reports whether a canonical host stands for more than one name.
func wildcard(host string) bool { return strings.HasPrefix(host, "*") }

// uncertifiable reports whether no public CA certifies any name of a canonical
// host, so that a certificate of our own is the sensible default.
func uncertifiable(host string) bool {
	if router.IsIP([]byte(host)) {
		ip := netip.MustParseAddr(host)
		return ip.IsPrivate() || carrierGrade(ip) || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsUnspecified() || ip.IsMulticast()
	}
	name := strings.TrimPrefix(host, "*.")
	if name == "*" {
		return false
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	switch last {
	case "localhost", "local", "internal", "test":
		return true
	}
	return last == host || strings.HasSuffix(name, ".home.arpa") || name == "home.arpa"
}

// carrierGrade reports an address that many networks share, RFC 6598.
func carrierGrade(ip netip.Addr) bool {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64}), 10).Contains(ip)
}

// settledCertificate is the kind of certificate that a host gets, kind if the
// file says so.
func settledCertificate(kind, host string) (string, error) {
	switch {
	case kind == "":
		return certificateByDefault(host)
	case kind == CertACME && wildcard(host):
		return kind, errWildcard
	}
	return kind, nil
}

// certificateByDefault is the kind of certificate where the file names none.
func certificateByDefault(host string) (string, error) {
	switch {
	case uncertifiable(host):
		return CertLocal, nil
	case wildcard(host):
		return "", errWildcard
	}
	return CertACME, nil
}

var errWildcard = errors.New(`a wildcard certificate by ACME needs a DNS-01 challenge, which comes later: ` +
	`set certificate = "local" or { cert = "…", key = "…" }, or name the hosts one by one`)
