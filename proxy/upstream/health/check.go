package health

import (
	"time"
)

// Kind is what a check does.
type Kind uint8

// The kinds of checks.
const (
	TCP  Kind = iota // connect
	TLS              // a handshake, any certificate: for passthrough
	HTTP             // one request; over TLS with Check.Secure
	GRPC             // grpc.health.v1.Health/Check; over TLS with Check.Secure
)

// Check is the whole specification of a check: equal ones of one address are
// one. It is comparable.
type Check struct {
	Kind     Kind
	Port     uint16 // 0: the backend's own
	Interval time.Duration
	Timeout  time.Duration
	Rise     int // successes in a row until healthy
	Fall     int // failures in a row until unhealthy

	Method, Path string // HTTP
	Host         string // HTTP: the Host field; GRPC: :authority; TLS: the server name
	Service      string // GRPC; empty: the whole server
	Status       string // HTTP: "200", "200-399" or a list with commas; empty: 200-399
	Body         string // HTTP: must occur in the first 64 KiB; empty: anything

	Secure     bool   // HTTP and GRPC over TLS
	ServerName string // verified; as the site's traffic does
	RootsPEM   string // trust; empty: the system's
	Insecure   bool   // verify nothing
	HTTP2      bool   // HTTP over HTTP/2, prior knowledge when not Secure
	Proxy      string // "", "v1" or "v2": sent as a LOCAL or UNKNOWN PROXY header
}

// State is what the checks of an address say.
type State uint8

// The states of an address.
const (
	Unknown State = iota // not checked yet: takes work
	Healthy
	Unhealthy
)

// String is the state's name in status and logs.
func (s State) String() string {
	return [...]string{"unknown", "healthy", "unhealthy"}[s]
}

// Status is what is known of a target, for people.
type Status struct {
	State   State
	Reason  string        // of the last failure, or empty
	Since   time.Time     // of State
	Last    time.Time     // of the latest check
	Took    time.Duration // the latest check
	Passed  uint64
	Failed  uint64
	InARow  int // equal results up to now
	Checked string
}
