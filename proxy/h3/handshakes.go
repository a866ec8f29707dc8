package h3

import (
	"sync"
	"time"
)

const (
	handshakeBurst = 256 // that have not completed before addresses are validated
	handshakeRate  = 64  // forgotten in a second
)

// handshakes counts those that have begun and not completed. While there are
// many, because of forged addresses or of load, new ones must first prove
// their address by a Retry (RFC 9000 section 8.1.2).
type handshakes struct {
	mu      sync.Mutex
	open    float64
	settled time.Time
}

// begin counts one from an address that is not validated, and reports whether
// it has to be.
func (h *handshakes) begin(now time.Time) (validate bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = max(0, h.open-now.Sub(h.settled).Seconds()*handshakeRate)
	h.settled = now
	if h.open >= handshakeBurst {
		return true
	}
	h.open++
	return false
}

// done counts one that has completed.
func (h *handshakes) done() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.open = max(0, h.open-1)
}
