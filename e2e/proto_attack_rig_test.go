package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
)

const (
	floodSize   = 20_000  // frames or streams of one attack
	maxReaching = 200     // requests of it that may reach a VM
	maxGrowth   = 8 << 20 // of resident memory
)

// besieged is an usher, without the race detector, whose VM counts what of an
// attack reaches it.
type besieged struct {
	edge
	reached atomic.Int32
	growth  int64 // of resident memory, at most
}

func besiege(t *testing.T, p protopeer.Proto) *besieged {
	t.Helper()
	b := &besieged{growth: maxGrowth}
	addr := serveHTTP(t, nil, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bystander" {
			io.WriteString(w, "ok")
			return
		}
		b.reached.Add(1)
		switch r.URL.Path {
		case "/big":
			io.CopyN(w, zeros{}, 1<<20)
		case "/slow":
			<-r.Context().Done()
		default:
			io.Copy(io.Discard, r.Body)
		}
	})
	u := builds.Start(t, rig.Config{Plain: true, Log: `access = "off"`, Body: fmt.Sprintf(`[timeouts]
response_write = "2s"
request_body = "2s"
[sites]
"aaaa.test" = "http://%s"`, addr)})
	b.edge = edge{u, p, t}
	return b
}

// endure runs an attack beside a bystander and judges what it did: the attack
// returns when its connection has ended.
func (b *besieged) endure(attack func()) {
	t := b.t
	t.Helper()
	c := b.client("aaaa.test")
	for range 500 { // so that what a busy process needs is there already
		if err := bystander(c); err != nil {
			t.Fatal(err)
		}
	}
	before, highest := resident(t, b.PID()), int64(0)
	ctx, cancel := context.WithCancel(t.Context())
	ended, asked := make(chan error, 1), 0
	go func() {
		for ctx.Err() == nil {
			if err := bystander(c); err != nil {
				ended <- err
				return
			}
			asked++
			highest = max(highest, resident(t, b.PID()))
		}
		ended <- nil
	}()
	attack()
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("a bystander's request: %v", err)
	}
	if asked == 0 {
		t.Error("no bystander's request in all the time")
	}
	if n := b.reached.Load(); n > maxReaching {
		t.Errorf("%d requests reached the VM", n)
	}
	if grown := highest - before; grown > b.growth {
		t.Errorf("memory rose by %d KiB", grown>>10)
	}
	t.Logf("%d reached the VM, memory rose by %d KiB, %d requests beside it", b.reached.Load(), (highest-before)>>10, asked)
}

func bystander(c *http.Client) error {
	p, err := c.Get("https://aaaa.test/bystander")
	if err != nil {
		return err
	}
	defer p.Body.Close()
	if body, err := io.ReadAll(p.Body); err != nil || string(body) != "ok" {
		return fmt.Errorf("%d %q, %w", p.StatusCode, body, err)
	}
	return nil
}

// attacker writes frames of HTTP/2 as it likes.
type attacker struct {
	t     *testing.T
	conn  *tls.Conn
	w     *bufio.Writer
	fr    *http2.Framer
	enc   *hpack.Encoder
	block bytes.Buffer
	ended chan error
}

// attack connects. A deaf attacker does not read until it has sent all.
func (b *besieged) attack(deaf bool, settings ...http2.Setting) *attacker {
	b.t.Helper()
	conf := b.conf("aaaa.test")
	conf.NextProtos = []string{"h2"}
	conn, err := tls.Dial("tcp", b.HTTPS, conf)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	a := &attacker{t: b.t, conn: conn, w: bufio.NewWriterSize(conn, 16<<10), ended: make(chan error, 1)}
	a.fr = http2.NewFramer(a.w, nil)
	a.fr.AllowIllegalWrites = true
	a.enc = hpack.NewEncoder(&a.block)
	a.w.WriteString(http2.ClientPreface)
	a.fr.WriteSettings(settings...)
	a.fr.WriteSettingsAck()
	a.w.Flush()
	if !deaf {
		go a.read()
	}
	return a
}

func (a *attacker) read() {
	fr := http2.NewFramer(io.Discard, a.conn)
	for {
		if _, err := fr.ReadFrame(); err != nil {
			a.ended <- err
			return
		}
	}
}

// flood writes until the connection does not take more.
func (a *attacker) flood(n int, f func(i int)) {
	for i := range n {
		if i%100 == 0 {
			a.conn.SetWriteDeadline(time.Now().Add(5 * time.Second))
		}
		if f(i); a.w.Flush() != nil {
			return
		}
	}
}

// wantEnded waits for the end of the connection.
func (a *attacker) wantEnded() {
	a.t.Helper()
	select {
	case <-a.ended:
	case <-time.After(peer.Patience):
		a.t.Error("the connection goes on")
	}
}

// fields encodes a request; name, value, name, value… are more of it.
func (a *attacker) fields(method, path string, more ...string) []byte {
	a.block.Reset()
	all := append([]string{":method", method, ":scheme", "https", ":authority", "aaaa.test", ":path", path}, more...)
	for i := 0; i < len(all); i += 2 {
		a.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return a.block.Bytes()
}

// open writes HEADERS.
func (a *attacker) open(id uint32, end bool, method, path string, more ...string) {
	a.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: a.fields(method, path, more...)})
}
