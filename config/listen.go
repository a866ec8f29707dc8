package config

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// taken is where the addresses of listeners stand in the files.
type taken map[bound]string

// bound is an address of one protocol.
type bound struct {
	addr netip.AddrPort
	udp  bool
}

// readListen reads [listen].
func readListen(top *table, taken taken) Listen {
	t, _ := top.sub("listen")
	t.known(inListen)
	l := Listen{HTTP: []string{":80"}, HTTPS: []string{":443"}, HTTP3: true}
	t.flag("http3", &l.HTTP3)
	readAddresses(t, "http", &l.HTTP, taken)
	readAddresses(t, "https", &l.HTTPS, taken)
	if l.HTTP3 {
		taken.http3(l.HTTPS)
	}
	l.ProxyProtocolFrom = readPrefixes(t, "proxy_protocol_from")
	l.TrustedProxies = readPrefixes(t, "trusted_proxies")
	l.PublicHTTPSPort = publicPort(t, l.HTTPS)
	if len(l.HTTP)+len(l.HTTPS) == 0 {
		t.fault("https", "with http = [] as well there is nothing to listen on")
	}
	return l
}

// publicPort defaults to the port of the first https listener.
func publicPort(t *table, https []string) int {
	if port, ok := t.port("public_https_port"); ok {
		return int(port)
	}
	if len(https) > 0 {
		if addr, err := listenAddress(https[0]); err == nil {
			return int(addr.Port())
		}
	}
	return 443
}

func readAddresses(t *table, key string, target *[]string, taken taken) {
	texts, ok := t.texts(key, "a list of addresses")
	if !ok {
		texts = *target
	}
	*target = nil
	for _, text := range texts {
		if addr, err := listenAddress(text); err != nil {
			t.fault(key, "%v", err)
		} else if t.free(key, addr, text, taken) {
			*target = append(*target, strings.Clone(text))
		}
	}
}

// free reports an address that stands twice, and takes it.
func (t *table) free(key string, addr netip.AddrPort, text string, taken taken) bool {
	if first, twice := taken[bound{addr, false}]; twice && addr.Port() != 0 {
		t.fault(key, "%q stands at %s already", text, first)
		return false
	}
	taken[bound{addr, false}] = t.label + key
	return true
}

// http3 takes the UDP ports of the https listeners.
func (t taken) http3(https []string) {
	for _, text := range https {
		if addr, err := listenAddress(text); err == nil {
			t[bound{addr, true}] = "listen.https (UDP, for HTTP/3)"
		}
	}
}

// by is where an address stands that cannot be bound beside one: the same, or
// that of every address with the same port.
func (t taken) by(one bound) (where string) {
	for other, at := range t {
		if other.udp == one.udp && other.addr.Port() == one.addr.Port() && overlap(other.addr.Addr(), one.addr.Addr()) {
			if where == "" || at < where { // the same one every time
				where = at
			}
		}
	}
	return where
}

func overlap(a, b netip.Addr) bool {
	return a == b || a == netip.IPv6Unspecified() || b == netip.IPv6Unspecified() ||
		a.Is4() && b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

// listenAddress reads ":PORT" or "IP:PORT". No IP is every address of the
// machine, as [::] is.
func listenAddress(text string) (netip.AddrPort, error) {
	if port, ok := strings.CutPrefix(text, ":"); ok && !strings.Contains(port, ":") {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q is not a port between 0 and 65535", port)
		}
		return netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(n)), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return addr, fmt.Errorf(`%q is not an address such as ":443", "127.0.0.1:8443" or "[::1]:8443"`, text)
	}
	return netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), nil
}

// readPrefixes reads a list of networks; a lone address is a network of one.
func readPrefixes(t *table, key string) []netip.Prefix {
	texts, _ := t.texts(key, "a list of networks")
	var found []netip.Prefix
	for _, text := range texts {
		prefix, err := network(text)
		if err != nil {
			t.fault(key, "%v", err)
			continue
		}
		found = append(found, prefix)
	}
	return found
}

func network(text string) (netip.Prefix, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return prefix, fmt.Errorf(`%q is not a network such as "10.0.0.0/8" or "fd00::/8"`, text)
	}
	if prefix.Masked() != prefix {
		return prefix, fmt.Errorf("%q has bits beyond its length: the network is %q, the address %q", text, prefix.Masked(), prefix.Addr())
	}
	return prefix, nil
}

// readMetrics reads [metrics]; empty is off.
func readMetrics(top *table, taken taken) string {
	t, _ := top.sub("metrics")
	t.known(inMetrics)
	text, ok := t.required("listen")
	if !ok {
		return ""
	}
	addr, err := listenAddress(text)
	if err != nil {
		t.fault("listen", "%v", err)
	} else {
		t.free("listen", addr, text, taken)
	}
	return text
}

// readAdmin reads [admin].
func readAdmin(top *table, taken taken) string {
	t, _ := top.sub("admin")
	t.known(inAdmin)
	text, ok := t.required("listen")
	if !ok {
		return defaultAdmin()
	}
	admin, err := adminAddress(t.dir, text)
	if err != nil {
		t.fault("listen", "%v", err)
	} else if addr, err := netip.ParseAddrPort(admin); err == nil {
		t.free("listen", addr, text, taken)
	}
	return admin
}

// adminAddress checks "unix:PATH" or a loopback "IP:PORT": who can reach the
// admin address owns the process.
func adminAddress(dir, text string) (string, error) {
	path, unix := strings.CutPrefix(text, "unix:")
	if unix {
		switch path = resolve(dir, path); {
		case path == "":
			return "", errors.New("the path of the socket is missing")
		case len(path) > maxUnixPath:
			return "", fmt.Errorf("%q is longer than the %d bytes that a socket's path may have", path, maxUnixPath)
		}
		return "unix:" + filepath.Clean(path), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", fmt.Errorf(`%q is neither "unix:/path" nor a loopback address such as "127.0.0.1:9180"`, text)
	}
	if !addr.Addr().IsLoopback() {
		return "", fmt.Errorf(`%q is not a loopback address: the admin API must not be reachable from elsewhere`, text)
	}
	return addr.String(), nil
}
