package admin

import "time"

// Problem is one thing that is wrong with a configuration.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"` // from 1, 0 is unknown
	Column  int    `json:"column"`
	Site    string `json:"site,omitempty"` // the site it quarantines; empty for the whole file
	Message string `json:"message"`
}

// Status is what a process knows of itself.
type Status struct {
	Version    string     `json:"version"`
	PID        int        `json:"pid"`
	Started    time.Time  `json:"started"`
	Draining   bool       `json:"draining"`
	Generation uint64     `json:"generation"`
	File       string     `json:"file"`
	Sites      int        `json:"sites"`
	Loaded     time.Time  `json:"loaded"`             // when this generation went live
	LastReload time.Time  `json:"last_reload"`        // the last attempt
	Refused    string     `json:"refused,omitempty"`  // why the last attempt was refused; empty when it was not
	Problems   []Problem  `json:"problems,omitempty"` // of the last attempt
	Faulty     []Fault    `json:"faulty,omitempty"`   // quarantined sites
	Drained    []string   `json:"drained,omitempty"`  // VMs that get no new work
	Listeners  []Listener `json:"listeners"`

	Connections  int    `json:"connections"` // open now
	Tunnels      int    `json:"tunnels"`     // open now
	DroppedLines uint64 `json:"dropped_log_lines"`
}

// Fault is a quarantined site.
type Fault struct {
	Site   string `json:"site"`
	Reason string `json:"reason"`
	Stale  bool   `json:"stale"` // its last good form serves on; otherwise it answers nothing but 503
}

// Listener is a bound socket.
type Listener struct {
	Kind        string `json:"kind"` // "http", "https", "quic", "metrics" or "admin"
	Address     string `json:"address"`
	Connections int    `json:"connections"` // open now
}

// States of a site.
const (
	Live   = "live"
	Stale  = "stale"  // faulty now, served in its last good form
	Faulty = "faulty" // never was good
)

// Site is one hostname and how it is served.
type Site struct {
	Host        string   `json:"host"`
	Mode        string   `json:"mode"` // "terminate" or "passthrough"
	To          []string `json:"to"`
	Certificate string   `json:"certificate,omitempty"` // "acme", "local" or "file"
	State       string   `json:"state"`
	Fault       string   `json:"fault,omitempty"`
	Requests    uint64   `json:"requests"`                  // since start
	Shared      bool     `json:"requests_shared,omitempty"` // Requests counts other sites too, there are so many
}

// VM is one backend address with what is sent to it. Counts are since the
// backend was configured, latencies of the last one to two minutes and in
// seconds, up to the response head.
type VM struct {
	Name    string `json:"name,omitempty"` // in [vms]
	Address string `json:"address"`
	Source  string `json:"source,omitempty"` // a name that led to the address
	Sites   int    `json:"sites"`            // and raw ports

	// Health is "healthy", "unknown" (not checked yet, or not at all),
	// "probing", "starting slowly", "ejected", "unhealthy", "unresolved",
	// "drained" or "off" (weight 0).
	Health string    `json:"health"`
	Why    string    `json:"why,omitempty"`
	Since  time.Time `json:"since,omitzero"`
	Checks []Check   `json:"checks,omitempty"`

	Active    int     `json:"active"` // connections in use
	Idle      int     `json:"idle"`
	Limit     int     `json:"limit,omitempty"` // of connections in use
	Requests  uint64  `json:"requests"`        // and tunnels
	Failures  uint64  `json:"failures"`
	Ejections uint64  `json:"ejections"`
	Retries   uint64  `json:"retries"` // requests tried elsewhere after it failed
	P50       float64 `json:"latency_p50"`
	P90       float64 `json:"latency_p90"`
	P99       float64 `json:"latency_p99"`

	Machine   *Machine  `json:"machine,omitempty"` // of a VM in [vms]
	LastError string    `json:"last_error,omitempty"`
	FailedAt  time.Time `json:"failed_at,omitzero"`
}

// Check is one health check of an address.
type Check struct {
	What   string    `json:"what"`
	State  string    `json:"state"` // "unknown", "healthy" or "unhealthy"
	Since  time.Time `json:"since,omitzero"`
	Reason string    `json:"reason,omitempty"` // of the last failure
	Last   time.Time `json:"last"`
	Took   float64   `json:"took"` // seconds
	Passed uint64    `json:"passed"`
	Failed uint64    `json:"failed"`
}

// Machine is the life of a VM of [vms].
type Machine struct {
	State      string    `json:"state"` // "running", "asleep", "starting", "stopping", "restarting" or "drained"
	Since      time.Time `json:"since,omitzero"`
	Why        string    `json:"why,omitempty"`
	Drained    bool      `json:"drained"`
	StopsAt    time.Time `json:"stops_at,omitzero"`      // if it stays idle
	NextStart  time.Time `json:"next_start,omitzero"`    // no start before
	RestartsAt time.Time `json:"restarts_at,omitzero"`   // if it stays unhealthy
	Hook       string    `json:"hook,omitempty"`         // what became of the latest one
	LookedFor  time.Time `json:"looked_for,omitzero"`    // by discovery, latest
	LookError  string    `json:"lookup_error,omitempty"` // why it was not found then
}

// Drained is what became of a VM that was drained or undrained.
type Drained struct {
	VM      string `json:"vm"`
	Drained bool   `json:"drained"`
	Active  int    `json:"active"` // exchanges and tunnels that it still has
}

// Certs is every certificate, and where the root of our own authority lies.
type Certs struct {
	LocalRoot    string        `json:"local_root,omitempty"` // file
	Certificates []Certificate `json:"certificates"`
}

// Certificate is what is held, or wanted, for one site.
type Certificate struct {
	Site      string    `json:"site"`
	Kind      string    `json:"kind"`
	State     string    `json:"state"` // "valid", "wanted", "renewing", "failed" or "expired"
	Issuer    string    `json:"issuer,omitempty"`
	Names     []string  `json:"names,omitempty"`
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	LastError string    `json:"last_error,omitempty"`
	NextTry   time.Time `json:"next_try,omitzero"`
}

// ReloadResult is what a reload did.
type ReloadResult struct {
	OK         bool      `json:"ok"`
	Generation uint64    `json:"generation"`        // that serves now
	Refused    string    `json:"refused,omitempty"` // why, when not OK
	Changes    []string  `json:"changes,omitempty"` // one line each, for people
	Problems   []Problem `json:"problems,omitempty"`
}
