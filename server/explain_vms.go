package server

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"usher/config"
	"usher/proxy/upstream/health"
)

// care says how one of the backends is chosen, how it is known which of them
// work, and what happens when none does.
func (e *explainer) care(c *config.Site, to []config.Backend) {
	if len(to) > 1 || manyAddresses(e.conf, to[0]) {
		e.say("balance", "%s", e.balance(c, to))
	}
	if s := c.Sticky; s != nil {
		until := "the browser is closed"
		if s.TTL > 0 {
			until = s.TTL.String() + " have passed"
		}
		e.say("sticky", "cookie %q brings a browser back to its backend until %s", s.Cookie, until)
	}
	e.limits(c, to)
	e.checks(c, to)
	if !c.NoEjection && len(to) > 1 {
		e.say("ejection", "a backend that fails requests is left out for 1s, doubled each time up to 30s, never the last one")
	}
	seen := make(map[string]bool)
	for _, b := range to {
		if b.VM != "" && !seen[b.VM] {
			seen[b.VM] = true
			e.machine(e.conf.VMs[b.VM])
		}
	}
	e.failure(c)
}

// manyAddresses reports whether a backend may stand for several addresses.
func manyAddresses(c *config.Config, b config.Backend) bool {
	d := c.VMs[b.VM].Discover
	return b.SRV || d != nil && d.Label != ""
}

func (e *explainer) balance(c *config.Site, to []config.Backend) string {
	text := map[string]string{
		"": "random2: the better one of two taken at random", config.BalanceRandom2: "random2: the better one of two taken at random",
		config.BalanceRoundRobin: "round_robin: in turn", config.BalanceLeastConn: "least_conn: the one with the least to do",
		config.BalanceIPHash: "ip_hash: the same one for each client address",
		config.BalanceHeader: fmt.Sprintf("the same one for each value of the header field %s", c.Balance.Name),
		config.BalanceCookie: fmt.Sprintf("the same one for each value of the cookie %s", c.Balance.Name),
	}[c.Balance.Method]
	var special []string
	for _, b := range to {
		switch {
		case b.Weight == 0:
			special = append(special, name(b)+" gets nothing new (weight 0)")
		case b.Weight != 1:
			special = append(special, fmt.Sprintf("%s has weight %d", name(b), b.Weight))
		}
		if b.Backup {
			special = append(special, name(b)+" only when none of the others can be had")
		}
	}
	if c.SlowStart > 0 {
		special = append(special, fmt.Sprintf("one that is new or came back has its full share after %s", c.SlowStart))
	}
	return strings.Join(append([]string{text}, special...), "; ")
}

// name is what people call a backend.
func name(b config.Backend) string {
	if b.VM != "" {
		return b.VM
	}
	return b.String()
}

func (e *explainer) limits(c *config.Site, to []config.Backend) {
	var parts []string
	for _, b := range to {
		if most := cmp.Or(b.MaxConns, c.MaxConns); most > 0 {
			parts = append(parts, fmt.Sprintf("%s %d at once", name(b), most))
		}
		if most := e.conf.VMs[b.VM].MaxConns; most > 0 {
			parts = append(parts, fmt.Sprintf("%s %d at once from all sites", name(b), most))
		}
	}
	switch {
	case len(parts) > 0 && c.Queue > 0:
		parts = append(parts, fmt.Sprintf("then %d may wait for %s, others get a 503", c.Queue, c.QueueTimeout))
	case len(parts) > 0:
		parts = append(parts, "then 503")
	}
	if c.Adaptive {
		parts = append(parts, "adaptive_concurrency: 503 when a backend becomes slow under what it has")
	}
	if len(parts) > 0 {
		e.say("limit", "%s", strings.Join(parts, "; "))
	}
}

// checks says how each backend is checked, once if it is the same for all.
func (e *explainer) checks(c *config.Site, to []config.Backend) {
	b := &builder{conf: e.conf}
	same := true
	texts := make([]string, len(to))
	for i, a := range to {
		texts[i] = checkText(b.check(c, to, a, nil))
		if d := e.conf.VMs[a.VM].Discover; texts[i] == unchecked && !c.HealthOff && (d != nil || namesMany(a, a.Host)) {
			texts[i] = "once there are several addresses: " + checkText(defaultCheck())
		}
		same = same && texts[i] == texts[0]
	}
	if same {
		e.say("health", "%s", texts[0])
		return
	}
	for i, a := range to {
		e.say("health", "%s: %s", name(a), texts[i])
	}
}

const unchecked = "not checked"

func checkText(c *health.Check) string {
	if c == nil {
		return unchecked
	}
	var what string
	switch c.Kind {
	case health.TCP:
		what = "TCP connection"
	case health.TLS:
		what = "TLS handshake"
	case health.HTTP:
		what = fmt.Sprintf("%s %s is %s", cmp.Or(c.Method, "GET"), cmp.Or(c.Path, "/"), cmp.Or(c.Status, "200-399"))
		if c.Body != "" {
			what += fmt.Sprintf(" with %q in it", c.Body)
		}
	case health.GRPC:
		what = "gRPC health of " + cmp.Or(c.Service, "the whole server")
	}
	if c.Port != 0 {
		what += fmt.Sprintf(" at port %d", c.Port)
	}
	return fmt.Sprintf("%s every %s, within %s; unhealthy after %d failures, healthy after %d successes", what, c.Interval, c.Timeout, c.Fall, c.Rise)
}

// machine says where a VM is found, and who starts and stops it.
func (e *explainer) machine(v config.VM) {
	if d := v.Discover; d != nil {
		e.say("vm "+v.Name, "its address is asked of %s, every %s where that does not tell of changes", sourceText(v), d.Interval)
	}
	if v.Start != nil {
		e.say("vm "+v.Name, "asleep when it does not answer: the first visitor has it started by %s; all wait for it, browsers with a page after hold, %s at most", commandText(v.Start), v.StartTimeout)
	}
	if v.IdleStop > 0 {
		e.say("vm "+v.Name, "stopped after %s without a request or a tunnel, by %s", v.IdleStop, commandText(v.Stop))
	}
	if v.Restart != nil {
		e.say("vm "+v.Name, "restarted after %s of failing checks, at most every %s, by %s", v.RestartAfter, v.RestartEvery, commandText(v.Restart))
	}
}

func sourceText(v config.VM) string {
	switch d := v.Discover; {
	case d.Source == "libvirt":
		return fmt.Sprintf("libvirt at %s, domain %q", cmp.Or(d.URI, "its default"), cmp.Or(d.Domain, v.Name))
	case d.Source == "proxmox" && d.VMID != 0:
		return fmt.Sprintf("Proxmox at %s, guest %d", d.URL, d.VMID)
	case d.Source == "proxmox":
		return fmt.Sprintf("Proxmox at %s, guest %q", d.URL, v.Name)
	case d.Source == "docker" && d.Label != "":
		return fmt.Sprintf("docker, containers with the label %q", d.Label)
	case d.Source == "docker":
		return fmt.Sprintf("docker, container %q", cmp.Or(d.Container, v.Name))
	default:
		return "the command " + commandText(d.Command)
	}
}

// commandText is a command for people.
func commandText(argv []string) string {
	if len(argv) == 1 && argv[0] == config.Builtin {
		return "what its discovery has built in"
	}
	return fmt.Sprintf("%q", strings.Join(argv, " "))
}

// failure says what a visitor meets when no backend answers.
func (e *explainer) failure(c *config.Site) {
	held := "not held"
	if t := c.Timeouts; t != nil && t.Hold > 0 {
		held = fmt.Sprintf("held up to %s", t.Hold.Round(time.Millisecond))
	}
	switch {
	case c.Host == "" || c.Passthrough():
		e.say("no answer", "%s, then the connection is closed", held)
	case c.Maintenance != "":
		e.say("no answer", "%s, then browsers get %s, API clients JSON", held, c.Maintenance)
	default:
		e.say("no answer", "%s, then 502, 503 or 504", held)
	}
}
