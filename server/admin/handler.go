package admin

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Source is the process that is asked. Its methods may be called at the same
// time.
type Source interface {
	Status() Status
	Sites() []Site
	VMs() []VM
	Certs() Certs
	Reload(ctx context.Context, force bool) ReloadResult
	// Drain keeps new work from a VM, by its name in [vms] or its address, or
	// gives it some again. The error is for people.
	Drain(vm string, drained bool) (Drained, error)
}

// Handler is the API over a source, with /metrics and /healthz answered by
// telemetry. It refuses requests that a web page may have sent.
func Handler(src Source, telemetry http.Handler) http.Handler {
	mux := http.NewServeMux()
	get := func(path string, value func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, value()) })
	}
	get("/v1/status", func() any { return src.Status() })
	get("/v1/sites", func() any { return list(src.Sites()) })
	get("/v1/vms", func() any { return list(src.VMs()) })
	get("/v1/certs", func() any { return src.Certs() })
	mux.HandleFunc("POST /v1/reload", reloader(src))
	mux.HandleFunc("POST /v1/vms/{vm}/drain", drainer(src, true))
	mux.HandleFunc("POST /v1/vms/{vm}/undrain", drainer(src, false))
	mux.Handle("/metrics", telemetry)
	mux.Handle("/healthz", telemetry)
	return guard(mux)
}

// reloader answers 409 when the configuration was refused.
func reloader(src Source) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		force := r.URL.Query().Get("force")
		if force != "" && force != "0" && force != "1" {
			refuse(w, http.StatusBadRequest, "force is 0 or 1")
			return
		}
		result := src.Reload(r.Context(), force == "1")
		status := http.StatusOK
		if !result.OK {
			status = http.StatusConflict
		}
		reply(w, status, result)
	}
}

// drainer answers 404 for a VM that there is not.
func drainer(src Source, drained bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		result, err := src.Drain(r.PathValue("vm"), drained)
		if err != nil {
			refuse(w, http.StatusNotFound, err.Error())
			return
		}
		reply(w, http.StatusOK, result)
	}
}

// list makes an empty list of a nil one, for scripts.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(v) // a client that left is no fault
}

// fault is the body of every refusal.
type fault struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, status int, why string) { reply(w, status, fault{why}) }

// guard lets no web page in: a name that was rebound to 127.0.0.1 shows in
// Host, a request from another site in Origin. Nothing on a unix socket comes
// from a browser, so its Host is not looked at.
func guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case len(r.Header["Origin"]) > 0:
			refuse(w, http.StatusForbidden, "requests of web pages are refused")
		case !overUnix(r) && !loopbackHost(r.Host):
			refuse(w, http.StatusForbidden, "Host must be localhost or a loopback address")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func overUnix(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && addr.Network() == "unix"
}

// loopbackHost reports whether a Host, with or without a port, is a literal
// that cannot be another machine.
func loopbackHost(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
