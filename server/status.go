package server

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"usher/config"
	"usher/server/admin"
	"usher/telemetry"
)

// Status implements admin.Source.
func (s *Server) Status() admin.Status {
	w := s.world.Load()
	st := admin.Status{
		Version: s.options.Version, PID: os.Getpid(), Started: s.started, Draining: s.draining.Load(),
		Generation: w.snapshot.Generation, File: s.options.File, Sites: len(w.sites), Loaded: w.loaded,
		Faulty: faults(w), Drained: s.fleet.Drained(), Listeners: slices.Concat(s.listeners.listening(), s.quic.listening(), s.forwards.listening(), s.control.listening()),
		Connections: s.metrics.Connections(telemetry.HTTP) + s.metrics.Connections(telemetry.HTTPS) + s.metrics.Connections(telemetry.QUIC) +
			s.metrics.Connections(telemetry.TCP) + s.metrics.Connections(telemetry.UDP),
		Tunnels: s.metrics.Tunnels(), DroppedLines: s.access.Dropped(),
	}
	if last := s.last.Load(); last != nil {
		st.LastReload, st.Refused, st.Problems = last.At, last.Refused, problems(last.Problems)
	}
	return st
}

func faults(w *world) (all []admin.Fault) {
	for host, b := range w.sites {
		if why := b.trouble(); why != "" {
			all = append(all, admin.Fault{Site: host, Reason: why, Stale: b.stale})
		}
	}
	slices.SortFunc(all, func(a, b admin.Fault) int { return cmp.Compare(a.Site, b.Site) })
	return all
}

// trouble is why a site is faulty: as it was configured, or because the name of
// its VM leads back to usher now.
func (b *built) trouble() string {
	if b.fault != "" || b.site.Pool == nil {
		return b.fault
	}
	if k := b.site.Pool.Own(); k != nil {
		return fmt.Sprintf("%s is %s, one of usher's own listeners", k.Source(), k)
	}
	return ""
}

func problems(list []config.Problem) (all []admin.Problem) {
	for _, p := range list {
		all = append(all, admin.Problem{File: p.File, Line: p.Line, Column: p.Column, Site: p.Site, Message: p.Message})
	}
	return all
}

// Sites implements admin.Source.
func (s *Server) Sites() []admin.Site {
	w := s.world.Load()
	all := make([]admin.Site, 0, len(w.sites))
	for host, b := range w.sites {
		one := admin.Site{
			Host: host, Mode: "terminate", To: []string{}, Certificate: b.form.Certificate, State: admin.Live, Fault: b.trouble(),
			Requests: b.site.Counters.Requests(), Shared: b.site.Counters.Shared(),
		}
		if b.form.Passthrough() {
			one.Mode = "passthrough"
		}
		switch {
		case b.stale:
			one.State = admin.Stale
		case one.Fault != "":
			one.State = admin.Faulty
		}
		for _, to := range b.form.To {
			one.To = append(one.To, to.String())
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b admin.Site) int { return cmp.Compare(a.Host, b.Host) })
	return all
}

// Certs implements admin.Source.
func (s *Server) Certs() admin.Certs {
	out := admin.Certs{LocalRoot: s.certs.RootFile(), Certificates: []admin.Certificate{}}
	for _, c := range s.certs.Status() {
		out.Certificates = append(out.Certificates, admin.Certificate{
			Site: c.Host, Kind: c.Kind, State: string(c.State), Issuer: c.Issuer,
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, LastError: c.Reason, NextTry: c.NextTry,
		})
	}
	return out
}

// apiReload implements admin.Source for a Server, whose own Reload says more.
type apiReload struct{ *Server }

// Reload implements admin.Source.
func (a apiReload) Reload(ctx context.Context, force bool) admin.ReloadResult {
	before := a.last.Load()
	// What the reload starts outlives the request.
	r := a.Server.Reload(a.Server.work, force)
	if r.empty() && before.fresh() && before != a.told.Load() {
		// Saving the file was quicker than the command that followed.
		r.Added, r.Removed, r.Changed = before.Added, before.Removed, before.Changed
	}
	a.told.Store(a.last.Load())
	out := admin.ReloadResult{OK: r.Refused == "", Generation: r.Generation, Refused: r.Refused, Problems: problems(r.Problems)}
	for _, c := range []struct {
		what  string
		hosts []string
	}{{"added", r.Added}, {"removed", r.Removed}, {"changed", r.Changed}} {
		out.Changes = append(out.Changes, changes(c.what, c.hosts)...)
	}
	return out
}

// empty reports a reload that changed nothing.
func (r *Result) empty() bool {
	return r.Refused == "" && len(r.Added)+len(r.Removed)+len(r.Changed) == 0
}

// fresh reports a reload that went live a moment ago.
func (r *Result) fresh() bool {
	return r != nil && r.Refused == "" && time.Since(r.At) < 5*time.Second
}

const mostChanges = 100 // lines of one kind

func changes(what string, hosts []string) (lines []string) {
	for i, h := range hosts {
		if i == mostChanges {
			return append(lines, fmt.Sprintf("%s %d more", what, len(hosts)-i))
		}
		lines = append(lines, what+" "+h)
	}
	return lines
}
