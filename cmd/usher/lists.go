package main

import (
	"fmt"
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
	t.row("ADDRESS", "NAME", "SITES", "ACTIVE", "IDLE", "HEALTH", "LAST ERROR")
	for _, v := range vms {
		fault := v.LastError
		if fault != "" && !v.FailedAt.IsZero() {
			fault = moment(v.FailedAt) + " " + fault
		}
		t.row(v.Address, dash(v.Name), number(v.Sites), number(v.Active), number(v.Idle), v.Health, fault)
	}
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
