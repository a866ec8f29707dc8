package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"usher/server/admin"
)

func showSites(t *table, sites []admin.Site) {
	t.row("HOST", "MODE", "STATE", "CERTIFICATE", "REQUESTS", "TO", "FAULT")
	for _, s := range sites {
		requests := strconv.FormatUint(s.Requests, 10)
		if s.Shared {
			requests = "-" // counted together with others
		}
		t.row(s.Host, s.Mode, s.State, dash(s.Certificate), requests, dash(strings.Join(s.To, " ")), s.Fault)
	}
}

func showVMs(t *table, vms []admin.VM) {
	t.row("VM", "ADDRESS", "HEALTH", "SINCE", "SITES", "ACTIVE", "IDLE", "REQUESTS", "FAILED", "RETRIED", "EJECTED", "P50", "P99", "WHY")
	for _, v := range vms {
		state, since := health(v)
		t.row(dash(v.Name), v.Address, state, dash(instant(since)), number(v.Sites), number(v.Active), number(v.Idle),
			count64(v.Requests), count64(v.Failures), count64(v.Retries), count64(v.Ejections), latency(v.P50), latency(v.P99), why(v))
	}
}

// health is the state of the machine where that says more than the address.
func health(v admin.VM) (state string, since time.Time) {
	if m := v.Machine; m != nil && m.State != "running" && m.State != "unknown" {
		return m.State, m.Since
	}
	return v.Health, v.Since
}

// why is everything that explains what is wrong.
func why(v admin.VM) string {
	var parts []string
	say := func(text string) {
		if text != "" && !slices.Contains(parts, text) {
			parts = append(parts, text)
		}
	}
	say(v.Why)
	if m := v.Machine; m != nil {
		say(m.Why)
		say(m.LookError)
	}
	if v.LastError != "" && v.LastError != v.Why {
		say(moment(v.FailedAt) + " " + v.LastError)
	}
	return strings.Join(parts, "; ")
}

func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return moment(at)
}

func count64(n uint64) string { return strconv.FormatUint(n, 10) }

func latency(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return fmt.Sprintf("%.1fms", seconds*1000)
}

func showCerts(t *table, c admin.Certs, now time.Time) {
	t.row("SITE", "KIND", "STATE", "EXPIRES", "ISSUER", "TROUBLE")
	for _, cert := range c.Certificates {
		t.row(cert.Site, cert.Kind, cert.State, dash(expiry(cert.NotAfter, now)), dash(cert.Issuer), trouble(cert))
	}
	if c.LocalRoot != "" {
		t.gap()
		t.row("usher's own authority, to be trusted for local certificates: " + c.LocalRoot)
	}
}

func expiry(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	left := at.Sub(now)
	if left < 0 {
		return moment(at) + " (expired)"
	}
	return fmt.Sprintf("%s (%d days)", moment(at), int(left.Hours()/24))
}

func trouble(c admin.Certificate) string {
	switch {
	case c.LastError != "" && !c.NextTry.IsZero():
		return c.LastError + "; next try " + moment(c.NextTry)
	case !c.NextTry.IsZero():
		return "next try " + moment(c.NextTry)
	}
	return c.LastError
}

// dash is what stands in an empty column, so that the next ones can be found.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
