//lint:file-ignore SA1019 The VM of this test is the HTTP/2 of x/net, whatever net/http prefers.

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"usher/e2e/peer"
)

// headed is a connection whose PROXY header was read.
type headed struct {
	net.Conn
	r *bufio.Reader
}

func (h headed) Read(p []byte) (int, error) { return h.r.Read(p) }

// TestProxyHeaderBeforeHTTP2: each exchange has a connection to the VM of its
// own, which begins with the client's address, and none is refused.
func TestProxyHeaderBeforeHTTP2(t *testing.T) {
	t.Parallel()
	u := start(t, `[sites."aaaa.test"]
to = "h2c://%s"
http = "forward"
proxy_protocol = "v1"`, headedVM(t))
	for range 3 {
		c := peer.DialFrom(t, listed, u.HTTP)
		if a := c.Get("aaaa.test", "/"); a.Status != 200 || string(a.Body) != "from "+listed {
			t.Fatalf("%d %q", a.Status, a.Body)
		}
	}
}

// headedVM is a VM that answers with the address of the PROXY header.
func headedVM(t *testing.T) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { serveHeaded(t, c) })
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().String()
}

func serveHeaded(t *testing.T, c net.Conn) {
	defer c.Close()
	h := headed{c, bufio.NewReader(c)}
	line, err := h.r.ReadString('\n')
	f := strings.Fields(line)
	if err == io.EOF { // it was probed
		return
	}
	if err != nil || len(f) != 6 || f[0] != "PROXY" {
		t.Errorf("PROXY header %q, %v", line, err)
		return
	}
	answer := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "from %s", f[2]) })
	(&http2.Server{}).ServeConn(h, &http2.ServeConnOpts{Handler: answer})
}
