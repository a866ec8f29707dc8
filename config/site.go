package config

import (
	"net/netip"
	"strings"
)

// environment is what the sites of all files build on. Sites are kept over a
// reload while it is the same.
type environment struct {
	vms       map[string]VM
	base      Site // what [defaults] and [timeouts] give to every site
	listeners []netip.AddrPort
	print     string // differs when anything of it differs
}

// builder makes the sites of one file.
type builder struct {
	env    *environment
	shared *shared
	report *report
	dir    string
	extern map[string]stamp // files that the verdicts depend on
	own    Settings         // of the site that is being made
}

// site makes one site of its value in the file. It is nil when the name is not
// a hostname: then there is nothing that could be quarantined.
func (b *builder) site(name string, value any, pos Position, bare bool) *Site {
	host, err := pattern(name)
	if err != nil {
		if !b.unquoted(name, value, bare) {
			b.report.problems = append(b.report.problems, Problem{pos, "", err.Error()})
		}
		return nil
	}
	s := b.env.base
	s.Host, s.Pos = host, pos
	b.own = *s.Settings
	s.Settings = &b.own
	before := len(b.report.problems)
	switch v := value.(type) {
	case string:
		b.short(&s, v)
	case []any:
		b.long(&s, &table{path: []string{"sites", name}, values: map[string]any{"to": v}})
	case map[string]any:
		if b.unquoted(name, value, bare) {
			return nil
		}
		b.long(&s, &table{path: []string{"sites", name}, values: v, bare: bare})
	default:
		b.faultAt(&s, nil, "", "must be an address, a list of addresses or a table, not %s", kindOf(v))
		b.withoutBackend(&s, nil, nil)
	}
	s.Fault = firstFault(b.report.problems[before:])
	s.Settings = b.shared.settingsOf(b.own)
	return &s
}

// short is a site that is one backend. It has no table, since there may be
// very many of it.
func (b *builder) short(s *Site, text string) {
	list, err := b.shared.backends(text, b.env.vms)
	if err != nil {
		b.faultAt(s, nil, "", "%v", err)
		b.withoutBackend(s, nil, text)
		return
	}
	s.To = list
	b.finish(s, nil)
}

// long is a site with keys of its own.
func (b *builder) long(s *Site, t *table) {
	t.report, t.site, t.dir = b.report, s.Host, b.dir
	b.apply(s, t)
	b.finish(s, t)
}

// firstFault is the first problem of a site by position.
func firstFault(problems []Problem) *Problem {
	var first *Problem
	for i, p := range problems {
		if p.Site != "" && (first == nil || comparePlaces(p.Position, first.Position) < 0) {
			first = &problems[i]
		}
	}
	if first == nil {
		return nil
	}
	fault := *first
	return &fault
}

// apply puts the values of a table over those that s already has.
func (b *builder) apply(s *Site, t *table) {
	t.known(inSite)
	b.to(s, t)
	b.paths(s, t)
	b.certificate(s, t)
	b.towardsVM(s, t)
	if v, ok := t.choice("http", "redirect", "forward", "refuse"); ok {
		s.HTTP = v
	}
	if v, ok := t.port("http_port"); ok {
		s.HTTPPort = v
	}
	t.flag("hsts", &s.HSTS)
	b.pool(s, t)
	b.pages(s, t)
	b.timeouts(s, t)
}

func (b *builder) to(s *Site, t *table) {
	list, ok := b.list(t, "to")
	if ok || t.has("to") {
		s.To = list
	}
}

// list reads the backends of a site. A single address is shared by all sites
// that have it.
func (b *builder) list(t *table, key string) ([]Backend, bool) {
	values := []any{t.values[key]}
	if list, ok := t.values[key].([]any); ok {
		values = list
	}
	if len(values) == 1 {
		if text, ok := values[0].(string); ok {
			list, err := b.shared.backends(text, b.env.vms)
			if err != nil {
				t.fault(key, "%v", err)
			}
			return list, err == nil
		}
	}
	return t.backends(key, func(text string) (Backend, error) { return parseBackend(text, b.env.vms) })
}

// towardsVM reads how a VM is spoken to.
func (b *builder) towardsVM(s *Site, t *table) {
	if name, ok := t.text("server_name"); ok {
		b.serverName(s, t, name)
	}
	b.trust(s, t)
	if v, ok := t.choice("alpn", "http/1.1", "h2"); ok {
		s.ALPN = v
	}
	if v, ok := t.choice("proxy_protocol", "v1", "v2", "none"); ok {
		s.ProxyProtocol = strings.TrimPrefix(v, "none")
	}
}

func (b *builder) serverName(s *Site, t *table, name string) {
	s.ServerName = ""
	if name == "" {
		return
	}
	host, err := address(name)
	if err != nil {
		t.fault("server_name", "%v", err)
	}
	s.ServerName = host
}

// trust reads ca_file and insecure. A site's own one of the two overrides the
// other one of [defaults].
func (b *builder) trust(s *Site, t *table) {
	if t.has("ca_file") {
		s.Insecure, s.CAFile = false, ""
		if v, _ := t.text("ca_file"); v != "" {
			s.CAFile = resolve(t.dir, v)
			b.check(t, "ca_file", "ca", checkCA, s.CAFile)
		}
	}
	if t.has("insecure") {
		t.flag("insecure", &s.Insecure)
		if s.Insecure && t.has("ca_file") {
			t.fault("insecure", "with a ca_file it would be ignored: keep one of the two")
		}
		if s.Insecure {
			s.CAFile = ""
		}
	}
}

// schemes is a set of them.
type schemes uint8

func (s schemes) has(one Scheme) bool { return s&bit(one) != 0 }

func bit(one Scheme) schemes {
	switch one {
	case HTTP:
		return 1
	case HTTPS:
		return 2
	case H2C:
		return 4
	case Passthrough:
		return 8
	case Redirect:
		return 16
	}
	return 32
}

// schemesOf are the schemes of a list.
func schemesOf(list []Backend) (s schemes) {
	for _, b := range list {
		s |= bit(b.Scheme)
	}
	return s
}
