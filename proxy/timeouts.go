package proxy

import (
	"time"

	"usher/proxy/message"
)

// Timeouts are those of connections, which no site can change.
type Timeouts struct {
	ClientHello time.Duration
	Handshake   time.Duration
	Drain       time.Duration
}

// SiteTimeouts are those a site may set for itself. How long to connect, to
// hold and to wait for a response head belongs to its pools.
type SiteTimeouts struct {
	message.Timeouts
	TunnelIdle time.Duration
}
