package config

import (
	"fmt"
	"net/netip"
	"time"
)

// Position is a place in a file; Line and Column start at 1, 0 is unknown.
type Position struct {
	File         string
	Line, Column int
}

// String is FILE:LINE:COL.
func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Problem is something wrong. A problem of one site (Site not empty)
// quarantines that site; any other refuses the whole configuration.
type Problem struct {
	Position
	Site    string
	Message string
}

func (p Problem) Error() string {
	if p.Site == "" {
		return p.Position.String() + ": " + p.Message
	}
	return fmt.Sprintf("%s: site %q: %s", p.Position, p.Site, p.Message)
}

// Config is one checked configuration with every default filled in.
type Config struct {
	File  string   // as given
	Files []string // every file read and every certificate and CA file named, for the watcher
	Dirs  []string // in which files of include patterns may appear

	Email    string
	StateDir string

	Listen   Listen
	Admin    string // "unix:PATH" or "IP:PORT"
	Metrics  string // "IP:PORT" or empty
	Log      Log
	ACME     ACME
	Timeouts Timeouts

	VMs   map[string]VM
	Sites []*Site // document order, the faulty ones too; never two of one Host
}

// Listen is [listen].
type Listen struct {
	HTTP, HTTPS       []string
	HTTP3             bool
	PublicHTTPSPort   int // 0: whatever port the first HTTPS listener gets
	ProxyProtocolFrom []netip.Prefix
	TrustedProxies    []netip.Prefix
}

// Log is [log].
type Log struct {
	Access string // "stdout", "stderr", "off" or a path
	Query  bool
	Level  string // zerolog's names
}

// Issuer is one ACME server.
type Issuer struct{ Directory, CAFile, EABKeyID, EABKey string }

// ACME is [acme]: the issuers in the order they are tried. CAFile, where
// given, is trusted for all of them that name none themselves.
type ACME struct{ Issuers []Issuer }

// Timeouts is [timeouts]; a site's own copy differs only in the keys that the
// contract lets a site override.
type Timeouts struct {
	ClientHello, Handshake, RequestHead, RequestBody, ResponseHead, ResponseWrite,
	KeepAlive, Connect, TunnelIdle, Hold, Drain time.Duration
}

// VM is one machine of [vms].
type VM struct {
	Name    string
	Address string // IP address or DNS name, without a port
	Pos     Position
}

// Scheme says what a backend speaks.
type Scheme string

// The schemes of a backend address.
const (
	HTTP        Scheme = "http"
	HTTPS       Scheme = "https"
	H2C         Scheme = "h2c"
	Passthrough Scheme = "passthrough"
	Redirect    Scheme = "redirect"
	Whoami      Scheme = "whoami"
)

// Backend is one checked backend address.
type Backend struct {
	Scheme Scheme
	VM     string // name in [vms], if it was given as one
	Host   string // IP address or DNS name after [vms] was looked up; host[:port] as written for a redirect
	Port   uint16
	Unix   string // path instead of Host and Port
}

// Certificate kinds of a site.
const (
	CertACME  = "acme"
	CertLocal = "local"
	CertFile  = "file"
)

// Path is one entry of a site's paths.
type Path struct {
	Prefix string
	To     []Backend
}

// Site is one hostname and how it is served, all defaults applied. Sites that
// leave a struct at its default share it: never change what a pointer or slice
// points to.
type Site struct {
	Host  string // canonical, maybe "*.…" or "*"
	Pos   Position
	Fault *Problem // quarantined, the first of its problems; then the other fields may be incomplete

	To    []Backend
	Paths []Path // longest prefix first

	Certificate       string // CertACME, CertLocal or CertFile; empty for passthrough
	CertFile, KeyFile string

	HTTP     string // "redirect", "forward" or "refuse"
	HTTPPort uint16 // passthrough: the VM's plain port

	ServerName    string // towards an https VM; empty: the site's hostname or the request's
	CAFile        string
	Insecure      bool
	ALPN          string // "http/1.1" or "h2"
	ProxyProtocol string // "", "v1" or "v2"
	HSTS          bool
	Timeouts      *Timeouts
}

// Passthrough reports whether the site's TLS is left to its VM.
func (s *Site) Passthrough() bool { return len(s.To) > 0 && s.To[0].Scheme == Passthrough }
