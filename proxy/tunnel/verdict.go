package tunnel

import "usher/proxy/message"

// verdict is who ended a tunnel first and why.
type verdict struct {
	side   message.Side
	reason string
}

// closed notes that an end sends no more. The first to do so counts.
func (v *verdict) closed(side message.Side) {
	if v.side == message.Nobody {
		v.side, v.reason = side, "closed"
	}
}

// failed notes a failure. It counts more than an orderly end before it, since
// the other direction was still running.
func (v *verdict) failed(side message.Side, reason string) {
	if v.side == message.Nobody || v.reason == "closed" {
		v.side, v.reason = side, reason
	}
}
