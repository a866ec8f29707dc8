package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/rig"
)

// TestLongBodies: long HTTP/1.1 bodies arrive as they were, both ways and many
// at once, and one that breaks off is seen to. Between a plain client and a
// plain VM they go through pipes of the kernel, of which none stays behind.
func TestLongBodies(t *testing.T) {
	t.Parallel()
	content := make([]byte, 5<<20+4711)
	rand.NewChaCha8([32]byte{}).Read(content)
	half := len(content) / 2
	read := make(chan struct{}) // the client has what came before a stall
	vm := serveHTTP(t, nil, func(w http.ResponseWriter, r *http.Request) {
		flush := http.NewResponseController(w).Flush
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
			flush()
			select {
			case <-read:
			case <-r.Context().Done():
			}
			w.Write(content[half:])
		case "/dies":
			w.Write(content[:half])
			flush()
			panic(http.ErrAbortHandler)
		case "/endless":
			w.Header().Set("Content-Length", fmt.Sprint(1<<40))
			for err := error(nil); err == nil; {
				_, err = w.Write(content)
			}
		}
	})
	u := start(t, `[sites."long.test"]
to = "http://%s"
http = "forward"`, vm)
	u.TLS("long.test").Close() // makes the local CA
	c := client(t, u)
	before := pipesOf(t, u.PID())
	for _, site := range []string{"http://long.test", "https://long.test"} {
		answers := make(chan error)
		for i := range 8 {
			go func() { answers <- longEcho(c, site, content[i:]) }()
		}
		for range 8 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		stalled := open(t, c, site+"/stalls")
		got := make([]byte, len(content))
		if _, err := io.ReadFull(stalled, got[:half]); err != nil {
			t.Fatal("before the stall:", err)
		}
		read <- struct{}{}
		if _, err := io.ReadFull(stalled, got[half:]); err != nil || !bytes.Equal(got, content) {
			t.Error("after the stall:", err)
		}
		if n, err := io.Copy(io.Discard, open(t, c, site+"/dies")); err == nil {
			t.Errorf("a body of which %d bytes came looked complete", n)
		}
	}

	// A client that does not read holds a pipe, until it leaves.
	reader := peer.Dial(t, u.HTTP)
	reader.Send("GET /endless HTTP/1.1\r\nHost: long.test\r\n\r\n")
	rig.Eventually(t, "a pipe is used", func() bool { return pipesOf(t, u.PID()) > before })
	reader.Close()
	rig.Eventually(t, "the pipes closed", func() bool { return pipesOf(t, u.PID()) <= before })
}

// open begins to read a page.
func open(t *testing.T, c *http.Client, url string) io.Reader {
	t.Helper()
	p, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Body.Close() })
	return p.Body
}

// longEcho sends a body and wants it back.
func longEcho(c *http.Client, site string, content []byte) error {
	p, err := c.Post(site+"/echo", "application/octet-stream", bytes.NewReader(content))
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
