package h2

import "testing"

// TestWorkersStayWhileTheyAreNeeded: the next burst finds those of the last
// one, a quiet connection keeps few.
func TestWorkersStayWhileTheyAreNeeded(t *testing.T) {
	const burst, smaller = 20, 12
	var c Conn
	idle := func() {
		for len(c.idlers) < burst {
			c.idlers = append(c.idlers, make(chan *exchange, 1))
		}
	}
	use := func(n int) {
		for range n {
			w := c.idlers[len(c.idlers)-1]
			c.start(new(exchange))
			<-w
		}
		c.running = 0
	}
	idle()
	c.trim()
	use(burst)
	idle()
	c.trim()
	if n := len(c.idlers); n != burst {
		t.Errorf("%d of %d workers stayed", n, burst)
	}
	oldest := c.idlers[0]
	use(smaller)
	c.trim()
	if n := len(c.idlers); n != maxIdlers || <-oldest != nil {
		t.Errorf("%d workers have nothing to do", n)
	}
}
