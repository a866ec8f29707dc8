package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"usher/e2e/rig"
)

// TestPipedBodies: long bodies between a plain client and a plain VM, which go
// through pipes of the kernel, arrive as they were, both ways and many at once;
// one that breaks off is seen to; and no pipe stays behind.
func TestPipedBodies(t *testing.T) {
	t.Parallel()
	content := make([]byte, 5<<20+4711)
	rand.NewChaCha8([32]byte{}).Read(content)
	half := len(content) / 2
	read := make(chan struct{}) // the client has what came before a stall
	vm := serveHTTP(t, nil, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		switch r.URL.Path {
		case "/echo":
			got, err := io.ReadAll(r.Body)
			if err != nil || int64(len(got)) != r.ContentLength {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(got)))
			w.Write(got)
		case "/stalls":
			w.Write(content[:half])
			http.NewResponseController(w).Flush()
			<-read
			w.Write(content[half:])
		case "/dies":
			w.Write(content[:half])
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	u := start(t, `[sites."plain.test"]
to = "http://%s"
http = "forward"`, vm)
	c := plainClient(t, u)
	before := pipesOf(t, u.PID())

	answers := make(chan error)
	for i := range 8 {
		go func() { answers <- pipedEcho(c, content[i:]) }()
	}
	for range 8 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}

	p, err := c.Get("http://plain.test/stalls")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Body.Close()
	got := make([]byte, len(content))
	if _, err := io.ReadFull(p.Body, got[:half]); err != nil {
		t.Fatal("before the stall:", err)
	}
	close(read)
	if _, err := io.ReadFull(p.Body, got[half:]); err != nil || !bytes.Equal(got, content) {
		t.Error("after the stall:", err)
	}

	p, err = c.Get("http://plain.test/dies")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Body.Close()
	if n, err := io.Copy(io.Discard, p.Body); err == nil {
		t.Errorf("a body of which %d bytes came looked complete", n)
	}
	rig.Eventually(t, "the pipes closed", func() bool { return pipesOf(t, u.PID()) <= before })
}

// pipedEcho sends a body and wants it back.
func pipedEcho(c *http.Client, content []byte) error {
	p, err := c.Post("http://plain.test/echo", "application/octet-stream", bytes.NewReader(content))
	if err != nil {
		return err
	}
	defer p.Body.Close()
	got, err := io.ReadAll(p.Body)
	if err != nil || !bytes.Equal(got, content) {
		return fmt.Errorf("%d of %d bytes came back, %v", len(got), len(content), err)
	}
	return nil
}

// plainClient sends everything to the plain port.
func plainClient(t *testing.T, u *rig.Usher) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", u.HTTP)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// pipesOf counts the ends of pipes that a process has open.
func pipesOf(t *testing.T, pid int) (n int) {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		if to, _ := os.Readlink(dir + e.Name()); strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}
