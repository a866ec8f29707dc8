package h3

import (
	"github.com/quic-go/quic-go"

	"usher/proxy/fields"
)

// rank is the priority of a response (RFC 9218).
type rank struct {
	urgency     int8
	incremental bool
}

const maxPriority = 64 // bytes of a PRIORITY_UPDATE that are worth reading

// priority reads a PRIORITY_UPDATE (RFC 9218 section 7.2).
func (r *controls) priority(kind, n uint64) error {
	if kind == framePriorityEnd { // of a push, and we have promised none
		return connError{codeID, errID}
	}
	if n > maxPriority {
		return r.ignore(n)
	}
	p, err := r.in.payload(int(n), func(int) error { return nil })
	if err != nil {
		return err
	}
	id, used := parseVarint(p)
	switch {
	case used == 0:
		return connError{codeFrame, errFrame}
	case id%4 != 0: // no request stream
		return connError{codeID, errID}
	}
	urgency, incremental, _ := fields.ParsePriority(p[used:])
	r.c.reprioritise(quic.StreamID(id), rank{int8(urgency), incremental})
	if !r.c.noise(1) {
		return connError{codeExcessive, errNoise}
	}
	return nil
}

// reprioritise changes the priority of a stream, also of one that is yet to
// come; the request's own field does not count any more.
func (c *conn) reprioritise(id quic.StreamID, to rank) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.streams[id]
	if s != nil {
		s.SetPriority(to.urgency, to.incremental)
	}
	if s == nil && (id < c.next || len(c.ranks) >= maxStreams) {
		return
	}
	if c.ranks == nil {
		c.ranks = make(map[quic.StreamID]rank)
	}
	c.ranks[id] = to
}

// forget ends what is known of a stream.
func (c *conn) forget(id quic.StreamID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, id)
	delete(c.ranks, id)
}

// rank gives the response the priority that the client asks for: by a
// PRIORITY_UPDATE, else by the request's field.
func (e *exchange) rank() {
	e.conn.mu.Lock()
	defer e.conn.mu.Unlock()
	if to, ok := e.conn.ranks[e.str.StreamID()]; ok {
		e.str.SetPriority(to.urgency, to.incremental)
		return
	}
	if p := fields.Priority(&e.ex.Request.Header); p != nil {
		if urgency, incremental, ok := fields.ParsePriority(p); ok {
			e.str.SetPriority(int8(urgency), incremental)
		}
	}
}
