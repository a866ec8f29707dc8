//go:build !race

package proxy

import "testing"

// TestProxiedRequestAllocatesNothing covers everything of a request in steady
// state: parsing, routing, forwarding fields, the VM's connection, the
// response, counters and the access-log line.
func TestProxiedRequestAllocatesNothing(t *testing.T) {
	v := newVisitor(t, newEdge(t, cannedVM(t, okResponse)))
	for range 200 {
		v.get()
	}
	if n := testing.AllocsPerRun(2000, v.get); n > 0 {
		t.Errorf("%v allocations for each request", n)
	}
}
