package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"usher/config"
	"usher/server/admin"
)

func statusCommand() *cobra.Command {
	return question("status", "Show how the running process is doing",
		func(c *admin.Client, cmd *cobra.Command) (admin.Status, error) { return c.Status(cmd.Context()) },
		showStatus)
}

func showStatus(t *table, s admin.Status) {
	state := "running"
	if s.Draining {
		state = "draining"
	}
	t.row("usher", fmt.Sprintf("%s, %s, pid %d, since %s", s.Version, state, s.PID, moment(s.Started)))
	t.row("configuration", fmt.Sprintf("%s, generation %d, live since %s", s.File, s.Generation, moment(s.Loaded)))
	if s.Refused != "" {
		t.row("last reload", "REFUSED at "+moment(s.LastReload)+": "+s.Refused)
	} else {
		t.row("last reload", "ok at "+moment(s.LastReload))
	}
	t.row("sites", sitesLine(s))
	t.row("connections", fmt.Sprintf("%d open, %s", s.Connections, count(s.Tunnels, "tunnel")))
	for _, l := range s.Listeners {
		t.row("listener", fmt.Sprintf("%s %s, %d open", l.Kind, l.Address, l.Connections))
	}
	if s.DroppedLines > 0 {
		t.row("access log", fmt.Sprintf("%d lines dropped", s.DroppedLines))
	}
	if len(s.Drained) > 0 {
		t.row("drained", strings.Join(s.Drained, ", "))
	}
	for _, f := range s.Faulty {
		t.row("faulty", faultLine(f))
	}
	for _, p := range s.Problems {
		t.row("problem", problemLine(p))
	}
}

func sitesLine(s admin.Status) string {
	line := number(s.Sites)
	if len(s.Faulty) > 0 {
		line += fmt.Sprintf(", %d faulty", len(s.Faulty))
	}
	return line
}

func faultLine(f admin.Fault) string {
	if f.Stale {
		return f.Site + " (stale: its last good form is served): " + f.Reason
	}
	return f.Site + ": " + f.Reason
}

// problemLine is what check prints of the same problem.
func problemLine(p admin.Problem) string {
	at := config.Position{File: p.File, Line: p.Line, Column: p.Column}
	return config.Problem{Position: at, Site: p.Site, Message: p.Message}.Error()
}

func sitesCommand() *cobra.Command {
	return question("sites", "List the sites and how they are served",
		func(c *admin.Client, cmd *cobra.Command) ([]admin.Site, error) { return c.Sites(cmd.Context()) },
		showSites)
}

func vmsCommand() *cobra.Command {
	return question("vms", "List the backends and what is sent to them",
		func(c *admin.Client, cmd *cobra.Command) ([]admin.VM, error) { return c.VMs(cmd.Context()) },
		showVMs)
}

func certsCommand() *cobra.Command {
	return question("certs", "List the certificates, and why one is missing",
		func(c *admin.Client, cmd *cobra.Command) (admin.Certs, error) { return c.Certs(cmd.Context()) },
		func(t *table, c admin.Certs) { showCerts(t, c, time.Now()) })
}
