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
	Files []string // every file read, and every certificate, CA, page and token file named, for the watcher
	Dirs  []string // in which files of include patterns may appear

	Email    string
	StateDir string

	Listen   Listen
	Admin    string // "unix:PATH" or "IP:PORT"
	Metrics  string // "IP:PORT" or empty
	Log      Log
	ACME     ACME
	Timeouts Timeouts

	VMs      map[string]VM
	Sites    []*Site    // document order, the faulty ones too; never two of one Host
	Forwards []*Forward // likewise
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
	Name     string
	Address  string    // IP address or DNS name, without a port; empty with Discover
	Discover *Discover // nil: Address is set
	Pos      Position
	MaxConns int     // at once to each of its backends; 0: no limit
	Health   *Health // for the sites that have none of their own; nil: none, Type may be empty

	// Commands, split into words; nil: none. The lone word Builtin selects what
	// libvirt or Proxmox offers.
	Start, Stop, Restart []string
	StartTimeout         time.Duration // with Start
	IdleStop             time.Duration // 0: never
	RestartAfter         time.Duration // unhealthy for so long; with Restart
	RestartEvery         time.Duration // at most one restart in this time
}

// Builtin is a command of a VM that its discovery source carries out itself.
const Builtin = "builtin"

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
	TCP         Scheme = "tcp" // of a Forward
	UDP         Scheme = "udp" // of a Forward
)

// Backend is one checked backend address.
type Backend struct {
	Scheme Scheme
	VM     string // name in [vms], if it was given as one
	Host   string // IP address or DNS name after [vms] was looked up, the VM's name if it is discovered; host[:port] as written for a redirect
	Port   uint16 // 0 with SRV
	SRV    bool   // Host is the name of SRV records
	Backup bool   // used only when no other backend can be
	Unix   string // path instead of Host and Port

	Weight   int // share of the work; 0: no new work
	MaxConns int // at once; 0: no limit of its own
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

	*Settings // there may be very many sites

	ErrorPages map[int]string // HTML files for answers of our own, by status
}

// Settings is what many sites have in common.
type Settings struct {
	Certificate       string // CertACME, CertLocal or CertFile; empty for passthrough
	CertFile, KeyFile string

	HTTP          string // "redirect", "forward" or "refuse"
	ServerName    string // towards an https VM; empty: the site's hostname or the request's
	CAFile        string
	ALPN          string // "http/1.1" or "h2"
	ProxyProtocol string // "", "v1" or "v2"
	Timeouts      *Timeouts

	HTTPPort    uint16 // passthrough: the VM's plain port
	Insecure    bool   // an https VM is not verified
	HSTS        bool
	Adaptive    bool // limit found from latency, beyond which requests are shed
	HealthOff   bool // no check at all
	NoEjection  bool // failing requests do not take a backend out
	Transparent bool // VMs see the client's address

	Balance      Balance // zero where no VM is behind the site
	Sticky       *Sticky // nil: off
	Health       *Health // nil: the VM's, else a TCP check of more than one backend
	SlowStart    time.Duration
	MaxConns     int           // at once to each backend; 0: no limit
	Queue        int           // requests that may wait for a backend at its limit; 0 without a limit too
	QueueTimeout time.Duration // how long they do

	Maintenance string // HTML file while no VM answers
}

// Passthrough reports whether the site's TLS is left to its VM.
func (s *Site) Passthrough() bool { return len(s.To) > 0 && s.To[0].Scheme == Passthrough }
