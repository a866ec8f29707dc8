package config

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kinds of health checks.
const (
	HealthHTTP = "http"
	HealthGRPC = "grpc"
	HealthTCP  = "tcp"
	HealthTLS  = "tls"
)

// Health is how a VM is asked whether it works. It is comparable.
type Health struct {
	Type string // HealthHTTP …; empty only in a VM: HealthTLS where the site is passthrough, else HealthTCP

	Path, Method string // HTTP
	Host         string // HTTP, GRPC: Host or :authority; TLS: server name. Empty: the site's
	Status       string // HTTP: "200", "200-399" or several with commas
	Body         string // HTTP: must occur in the answer; empty: anything
	Service      string // GRPC; empty: the whole server

	Interval, Timeout time.Duration
	Rise, Fall        int    // equal results in a row until the state changes
	Port              uint16 // 0: the backend's
}

// Bounds of what a check may ask for.
const (
	leastInterval     = 100 * time.Millisecond
	mostInterval      = 24 * time.Hour
	mostHealthTimeout = 5 * time.Minute
	mostInARow        = 100
	mostHealthBody    = 1024
)

// defaultHealth is what true stands for.
func defaultHealth() Health {
	return Health{Interval: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3}
}

// health reads true, false or a table. off is false; nil and not off is
// absent or faulty. A check of the empty type is that of the site's kind.
func (b *builder) health(t *table) (h *Health, off bool) {
	check := defaultHealth()
	switch v := t.values["health"].(type) {
	case nil:
		return nil, false
	case bool:
		if !v {
			return nil, true
		}
	case map[string]any:
		sub, _ := t.sub("health")
		check.read(sub)
	default:
		t.fault("health", `must be true, false or a table such as { path = "/healthz" }, not %s`, kindOf(v))
		return nil, false
	}
	return intern(b.shared.health, check), false
}

// read reads a table over the defaults.
func (h *Health) read(t *table) {
	t.known(inHealth)
	if t.has("path") {
		h.Type = HealthHTTP
	}
	if v, ok := t.choice("type", HealthHTTP, HealthGRPC, HealthTCP, HealthTLS); ok {
		h.Type = v
	}
	h.suits(t)
	if h.Type == HealthHTTP {
		h.Path, h.Method, h.Status = "/", "GET", "200-399"
	}
	h.readHTTP(t)
	if host, ok := t.required("host"); ok {
		h.Host = healthHost(t, host)
	}
	h.Service, _ = t.required("service")
	t.between("interval", &h.Interval, leastInterval, mostInterval)
	t.between("timeout", &h.Timeout, leastInterval, mostHealthTimeout)
	t.integer("rise", &h.Rise, 1, mostInARow)
	t.integer("fall", &h.Fall, 1, mostInARow)
	h.Port, _ = t.port("port")
}

// suits reports the keys that would do nothing in a check of the type.
func (h *Health) suits(t *table) {
	for _, one := range []struct {
		key   string
		types []string
	}{
		{"path", []string{HealthHTTP}},
		{"method", []string{HealthHTTP}},
		{"status", []string{HealthHTTP}},
		{"body", []string{HealthHTTP}},
		{"host", []string{HealthHTTP, HealthGRPC, HealthTLS}},
		{"service", []string{HealthGRPC}},
	} {
		if t.has(one.key) && !slices.Contains(one.types, h.Type) {
			t.fault(one.key, "matters only with type = %s", alternatives(one.types))
		}
	}
}

// readHTTP reads what only an HTTP check has.
func (h *Health) readHTTP(t *table) {
	if path, ok := t.text("path"); ok {
		switch h.Path = path; {
		case !strings.HasPrefix(path, "/"):
			t.fault("path", `must begin with "/"`)
		case strings.ContainsFunc(path, notInPath) || strings.Contains(path, "#"):
			t.fault("path", "%q holds a character that no path and query has unless it is percent-encoded", path)
		}
	}
	if v, ok := t.choice("method", "GET", "HEAD", "OPTIONS", "POST"); ok {
		h.Method = v
	}
	if text, ok := t.required("status"); ok {
		if h.Status, ok = statusList(text); !ok {
			t.fault("status", `%q is not a list of statuses such as "200", "200-399" or "200,204"`, text)
		}
	}
	if text, ok := t.required("body"); ok {
		switch h.Body = text; {
		case len(text) > mostHealthBody:
			t.fault("body", "is longer than %d bytes", mostHealthBody)
		case h.Method == "HEAD":
			t.fault("body", "the answer to HEAD has none")
		}
	}
}

// statusList checks statuses and ranges of them, and takes the spaces out.
func statusList(text string) (string, bool) {
	text = strings.ReplaceAll(text, " ", "")
	for one := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(one, "-")
		if !isRange {
			last = first
		}
		if !isStatus(first) || !isStatus(last) || first > last {
			return "", false
		}
	}
	return text, true
}

// isStatus reports a status of three digits, RFC 9110 section 15.
func isStatus(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && len(text) == 3 && n >= 100 && n <= 599
}

// healthHost checks host[:port] as a Host field has it.
func healthHost(t *table, text string) string {
	host, _, err := splitAddress(text)
	if err == nil {
		_, err = canonical(host)
	}
	if err != nil {
		t.fault("host", "%v", err)
	}
	return text
}

// finishHealth settles the type of a site's check, or passes over one that the
// site cannot have.
func (b *builder) finishHealth(s *Site, t *table, used schemes) {
	if s.Health == nil {
		return
	}
	h := *s.Health
	if h.Type == "" {
		h.Type = HealthTCP
		if s.Passthrough() {
			h.Type = HealthTLS
		}
	}
	asks := h.Type == HealthHTTP || h.Type == HealthGRPC
	reason := ""
	switch {
	case h.Port != 0 && hasUnix(s):
		reason = "a unix: backend has no port"
	case h.Port != 0:
	case s.Passthrough() && asks:
		reason = "behind passthrough:// stands TLS: " + h.Type + " needs a port of the VM that speaks it plainly"
	case !s.Passthrough() && h.Type == HealthTLS && !used.has(HTTPS):
		reason = `type "tls" needs an https:// backend, or a port`
	}
	switch {
	case reason == "":
		s.Health = intern(b.shared.health, h)
	case t.has("health"):
		t.fault("health", "%s", reason)
	default:
		s.Health = nil
	}
}

// hasUnix reports whether a backend of the site is a unix socket.
func hasUnix(s *Site) bool {
	return slices.ContainsFunc(s.To, isUnix) ||
		slices.ContainsFunc(s.Paths, func(p Path) bool { return slices.ContainsFunc(p.To, isUnix) })
}

func isUnix(b Backend) bool { return b.Unix != "" }
