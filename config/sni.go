package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"usher/router"
)

// sni reads the table of server names of a forward.
func (b *builder) sni(f *Forward, t *table) {
	sub, ok := t.sub("sni")
	if !ok {
		return
	}
	if len(sub.values) == 0 {
		t.fault("sni", "is empty")
	}
	first := make(map[string]string)
	for _, name := range slices.Sorted(maps.Keys(sub.values)) {
		host, err := sniHost(name)
		if err == nil && first[host] != "" {
			err = fmt.Errorf("%q stands here already, as %q", name, first[host])
		}
		if err != nil {
			sub.report.add("", sub.at(name), "%s%v", t.label+"sni: ", err)
			continue
		}
		first[host] = name
		f.SNI = append(f.SNI, b.sniEntry(host, name, sub))
	}
	slices.SortFunc(f.SNI, func(a, b ForwardSNI) int { return cmp.Compare(a.Host, b.Host) })
}

// sniHost is the router's key of a name in sni.
func sniHost(name string) (string, error) {
	if strings.ContainsAny(name, "/:") {
		return "", fmt.Errorf("%q is no server name", name)
	}
	host, err := pattern(name)
	if err == nil && router.IsIP([]byte(host)) {
		err = fmt.Errorf("%q: an IP address is no server name", name)
	}
	return host, err
}

// sniEntry reads one entry of sni: a backend, a list of them or a table.
func (b *builder) sniEntry(host, name string, sub *table) ForwardSNI {
	s := ForwardSNI{Host: host, Pos: sub.report.find(sub.at(name))}
	t := &table{report: sub.report, dir: sub.dir, path: sub.at(name), label: sub.label + name + "."}
	switch v := sub.values[name].(type) {
	case string, []any, []map[string]any:
		t.values = map[string]any{"to": v}
	case map[string]any:
		t.values = v
		if b.unquotedServerName(name, t) {
			return s
		}
		t.known(inForwardSNI)
		if !t.has("to") {
			t.missing("to is missing: where the connections go")
		}
	default:
		sub.fault(name, "must be an address, a list of addresses or a table, not %s", kindOf(v))
		return s
	}
	var ok bool
	s.To, ok = t.backends("to", func(text string) (Backend, error) {
		return parseForward(text, b.env.vms, Passthrough, TCP)
	})
	if !ok {
		return s
	}
	if err := s.settle(); err != nil {
		t.fault("to", "%v", err)
	}
	b.sniCertificate(&s, t)
	return s
}

// settle finds out who does the TLS.
func (s *ForwardSNI) settle() error {
	s.Passthrough = s.To[0].Scheme == Passthrough
	if slices.ContainsFunc(s.To, func(b Backend) bool { return (b.Scheme == Passthrough) != s.Passthrough }) {
		return errors.New("passthrough:// beside others: TLS either ends here or at the VMs")
	}
	return nil
}

// sniCertificate reads the certificate for TLS that ends here.
func (b *builder) sniCertificate(s *ForwardSNI, t *table) {
	if s.Passthrough {
		if t.has("certificate") {
			t.fault("certificate", "cannot be used with passthrough://, where the VM does the TLS")
		}
		return
	}
	read := Site{Settings: new(Settings)}
	b.certificate(&read, t)
	if read.Certificate == "" && t.has("certificate") { // a fault by itself
		return
	}
	kind, err := settledCertificate(read.Certificate, s.Host)
	if err != nil {
		t.report.add("", t.at("certificate"), "%scertificate: %v", t.label, err)
	}
	s.Certificate, s.CertFile, s.KeyFile = kind, read.CertFile, read.KeyFile
}

// unquotedServerName reports a name that was written without quotes, which TOML
// reads as nested tables. One with a dot was quoted.
func (b *builder) unquotedServerName(name string, t *table) bool {
	if strings.Contains(name, ".") {
		return false
	}
	hosts := dottedNames(name, t.values, keysOf(inForwardSNI))
	for _, path := range hosts {
		t.report.quote(t.path[:len(t.path)-1], path)
	}
	return len(hosts) > 0
}
