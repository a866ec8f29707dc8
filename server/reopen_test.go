package server

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// TestListenerGoneAndBack: a reload that wants an address again is not refused
// because the one before is just giving it up.
func TestListenerGoneAndBack(t *testing.T) {
	e := newEdge(t, "")
	reserved, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+rand.IntN(254), rand.IntN(256), 1+rand.IntN(254)))
	if err != nil {
		t.Fatal(err)
	}
	address := reserved.Addr().String()
	reserved.Close()
	for range 30 {
		e.write(fmt.Sprintf(`http = ["127.0.0.1:0", %q]`, address), "")
		e.reload()
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		e.write(`http = ["127.0.0.1:0"]`, "")
		e.reload()
	}
}
