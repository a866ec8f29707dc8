package fields

import (
	"bytes"

	"usher/proxy/message"
)

// DefaultUrgency is RFC 9218 section 4.1.
const DefaultUrgency = 3

// ParsePriority reads the members u and i of a priority (RFC 9218 section 4),
// a Structured Field dictionary. What cannot be read is ignored, as section 5
// asks; ok reports that there was a member.
func ParsePriority(v []byte) (urgency uint8, incremental, ok bool) {
	urgency = DefaultUrgency
	for len(v) > 0 {
		var member []byte
		member, v, _ = bytes.Cut(v, []byte{','})
		member, _, _ = bytes.Cut(bytes.TrimSpace(member), []byte{';'})
		switch {
		case len(member) == 3 && member[0] == 'u' && member[1] == '=' && member[2]-'0' < 8:
			urgency, ok = member[2]-'0', true
		case string(member) == "i", string(member) == "i=?1":
			incremental, ok = true, true
		case string(member) == "i=?0":
			incremental, ok = false, true
		}
	}
	return urgency, incremental, ok
}

// Priority is the value of the priority field of a head, nil if there is none.
func Priority(h *message.Header) []byte {
	for _, f := range h.All() {
		if f.ID == message.Other && len(f.Name) == len("priority") && message.EqualFold(f.Name, "priority") {
			return f.Value
		}
	}
	return nil
}
