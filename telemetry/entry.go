package telemetry

import (
	"net/netip"
	"time"
)

// Exchange is the access-log line of one request and its response. Empty
// fields are left out of the line. The slices are only read during the call.
type Exchange struct {
	Time      time.Time  // first byte of the request head
	Client    netip.Addr // the client that policies see too
	Port      uint16     // of the client; 0 when a trusted proxy stands between
	RequestID []byte
	Site      string // canonical host of the site, empty when none matched
	Method    []byte
	Scheme    string
	Host      []byte // as sent
	Path      []byte // as sent; what follows a '?' is Query's, and split off here when it is still on
	Query     []byte // logged only if the log was opened with Query
	Proto     string // "HTTP/1.1"
	Status    int    // what the client was told, 0 for nothing
	BytesIn   int64  // body bytes from the client
	BytesOut  int64  // body bytes to the client
	Duration  time.Duration
	FirstByte time.Duration // until the final response head; 0 when there was none
	Backend   string
	Attempts  int // backends tried

	TLSVersion uint16 // 0 without TLS
	TLSCipher  uint16
	SNI        string

	Failed string // "client", "vm", "usher" or empty
	Reason string // why, or which policy answered
}

// Tunnel is the access-log line of bytes relayed both ways: a passthrough
// connection, an upgrade, or a raw forward.
type Tunnel struct {
	Time      time.Time // when the connection was accepted
	Client    netip.Addr
	Port      uint16
	RequestID []byte // of the request that was upgraded
	Site      string // its host, or the name of a raw forward: "tcp://:2222"
	SNI       string
	ALPN      string // as offered, comma separated, or as agreed
	Backend   string
	Attempts  int
	BytesIn   int64 // client to VM
	BytesOut  int64 // VM to client
	Datagrams Datagrams
	Duration  time.Duration
	ClosedBy  string // "client", "vm" or "usher"
	Reason    string
}

// Datagrams is what a UDP session counts besides bytes.
type Datagrams struct{ In, Out, Dropped int64 }

// Refusal is the access-log line of a connection that was refused or a request
// that could not be parsed. Such lines are sampled.
type Refusal struct {
	Time      time.Time
	Client    netip.Addr
	Port      uint16
	Listener  Kind
	Cause     Cause
	RequestID []byte
	SNI       string
	Method    []byte // whatever could be read of a malformed request
	Host      []byte
	Path      []byte
	Status    int // what the client was told, 0 for nothing or a TLS alert
	Reason    string
}

// Kind is what a listener speaks.
type Kind uint8

// The kinds of listeners.
const (
	HTTP Kind = iota
	HTTPS
	QUIC
	TCP // a raw forward
	UDP // likewise; its connections are sessions
	kinds
)

func (k Kind) String() string { return [kinds]string{"http", "https", "quic", "tcp", "udp"}[k] }

// Cause is why a connection or a request was refused before it had a site's
// attention. The set is closed, since each is a series of a metric.
type Cause uint8

// The causes.
const (
	UnknownName   Cause = iota // an SNI, or none, without a site
	BadHello                   // a ClientHello that is too large or not parsable
	SlowHello                  // a ClientHello or PROXY header that did not arrive in time
	NotTLS                     // other bytes on a TLS port
	BadProxy                   // a PROXY header that is missing or wrong
	Malformed                  // a request that is not strict HTTP
	SlowHead                   // a request head that did not arrive in time
	Handshake                  // a TLS handshake that failed
	NoCertificate              // a site that has none yet
	Quarantined                // a site that is faulty
	BackendDown                // a passthrough VM, or that of a raw forward, that does not answer
	Policy                     // a policy said no
	Limit                      // too many connections or no descriptors
	causes
)

func (c Cause) String() string {
	return [causes]string{
		"unknown_name", "bad_hello", "slow_hello", "not_tls", "bad_proxy_header", "malformed",
		"slow_head", "handshake", "no_certificate", "quarantined", "backend_down", "policy", "limit",
	}[c]
}
