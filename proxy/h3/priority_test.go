package h3

import (
	"testing"

	"github.com/quic-go/quic-go"
)

// TestPriority: the request's field counts, until the client says otherwise in
// a PRIORITY_UPDATE, which may come before the request.
func TestPriority(t *testing.T) {
	for name, test := range map[string]struct {
		update bool
		want   rank
	}{
		"field":  {false, rank{5, true}},
		"update": {true, rank{1, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c := bare(&handler{serve: hello})
			if test.update {
				c.reprioritise(0, rank{1, false})
				c.reprioritise(4, rank{2, false})
			}
			f := &fake{in: headers(":method", "GET", ":scheme", "https", ":authority", "a.test", ":path", "/", "priority", "u=5, i")}
			c.run(f)
			c.forget(0)
			if f.rank != test.want {
				t.Errorf("served at %+v, want %+v", f.rank, test.want)
			}
			if _, kept := c.ranks[4]; len(c.ranks) > 1 || kept != test.update {
				t.Errorf("remembered: %v", c.ranks)
			}
		})
	}
}

// TestPriorityOfStrangers: what a client says of streams that are over or far
// away is not remembered.
func TestPriorityOfStrangers(t *testing.T) {
	c := bare(&handler{})
	c.next = 8
	c.reprioritise(4, rank{1, false})
	for i := range 10 * maxStreams {
		c.reprioritise(8+4*quic.StreamID(i), rank{1, false})
	}
	if _, kept := c.ranks[4]; kept || len(c.ranks) > maxStreams {
		t.Errorf("%d remembered, the one that is over: %v", len(c.ranks), kept)
	}
}
