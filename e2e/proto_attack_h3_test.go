package e2e

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/quicvarint"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
)

// h3Attacker writes streams and frames of HTTP/3 as it likes.
type h3Attacker struct {
	t       *testing.T
	ctx     context.Context
	conn    *quic.Conn
	control *quic.SendStream
	stream  *quic.Stream // the last one
}

func (b *besieged) attackH3(window uint64) *h3Attacker {
	b.t.Helper()
	conn, err := protopeer.DialQUIC(b.HTTPS, b.conf("aaaa.test"), window)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.CloseWithError(0, "") })
	control, err := conn.OpenUniStream()
	if err != nil {
		b.t.Fatal(err)
	}
	control.Write([]byte{0, 4, 0})
	return &h3Attacker{t: b.t, conn: conn, control: control}
}

// flood goes on until the connection takes no more, or for a while.
func (a *h3Attacker) flood(n int, f func(i int)) {
	ctx, cancel := context.WithTimeout(a.conn.Context(), peer.Patience)
	defer cancel()
	a.ctx = ctx
	for i := 0; i < n && ctx.Err() == nil; i++ {
		f(i)
	}
}

func (a *h3Attacker) wantEnded() {
	a.t.Helper()
	select {
	case <-a.conn.Context().Done():
	case <-time.After(peer.Patience):
		a.t.Error("the connection goes on")
	}
}

// frame is the bytes of one.
func h3Frame(kind uint64, payload string) []byte {
	b := quicvarint.Append(quicvarint.Append(nil, kind), uint64(len(payload)))
	return append(b, payload...)
}

// open sends a request; name, value, name, value… are more of it. It waits
// until the server lets it open the stream.
func (a *h3Attacker) open(method, path string, more ...string) {
	s, err := a.conn.OpenStreamSync(a.ctx)
	if err != nil {
		return
	}
	var b bytes.Buffer
	enc := qpack.NewEncoder(&b)
	all := append([]string{":method", method, ":scheme", "https", ":authority", "aaaa.test", ":path", path}, more...)
	for i := 0; i < len(all); i += 2 {
		enc.WriteField(qpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	a.stream = s
	s.SetDeadline(time.Now().Add(peer.Patience))
	s.Write(h3Frame(1, b.String()))
}

// reset gives the newest stream up.
func (a *h3Attacker) reset() {
	if a.stream != nil {
		a.stream.CancelWrite(0x10c)
		a.stream.CancelRead(0x10c)
	}
}

// upload is the one stream of an attack by frames.
func (a *h3Attacker) upload(i int, frame []byte) {
	if i == 0 {
		a.open("POST", "/")
	}
	if a.stream != nil {
		a.stream.Write(frame)
	}
}

func attacksOnH3() map[string]func(*h3Attacker, int) {
	many := make([]string, 0, 4000)
	for range 2000 {
		many = append(many, "accept", "*/*") // one byte each
	}
	return map[string]func(*h3Attacker, int){
		"rapid reset":            func(a *h3Attacker, _ int) { a.open("GET", "/"); a.reset() },
		"rapid reset of uploads": func(a *h3Attacker, _ int) { a.open("POST", "/slow"); a.reset() },
		"malformed requests":     func(a *h3Attacker, _ int) { a.open("GET", "/", "Upper", "case"); a.stream.Close() },
		"refused requests":       func(a *h3Attacker, _ int) { a.open("GET", "no path"); a.stream.Close() },
		"static references":      func(a *h3Attacker, _ int) { a.open("GET", "/", many...); a.stream.Close() },
		"large sections":         func(a *h3Attacker, _ int) { a.open("GET", "/", "x", strings.Repeat("\x7f", 100_000)); a.stream.Close() },
		"reset by a false length": func(a *h3Attacker, _ int) {
			a.open("POST", "/slow", "content-length", "1")
			a.stream.Write(h3Frame(0, "xy"))
		},
		"reset by a frame of another stream": func(a *h3Attacker, _ int) { a.open("POST", "/slow"); a.stream.Write(h3Frame(4, "")) },
		"empty DATA":                         func(a *h3Attacker, i int) { a.upload(i, h3Frame(0, "")) },
		"unknown frames":                     func(a *h3Attacker, i int) { a.upload(i, h3Frame(0x21, "x")) },
		"unknown control frames":             func(a *h3Attacker, _ int) { a.control.Write(h3Frame(0x21, "x")) },
		"PRIORITY_UPDATE": func(a *h3Attacker, i int) {
			a.control.Write(h3Frame(0xf0700, string(quicvarint.Append(nil, uint64(4*i)))+"u=1"))
		},
		"MAX_PUSH_ID": func(a *h3Attacker, i int) { a.control.Write(h3Frame(0xd, string(quicvarint.Append(nil, uint64(i))))) },
		"streams of unknown kinds": func(a *h3Attacker, _ int) {
			if s, err := a.conn.OpenUniStreamSync(a.ctx); err == nil {
				s.Write([]byte{0x21})
				s.Close()
			}
		},
	}
}

// TestAttacksOnH3: each attack ends its connection, costs little and is
// noticed by nobody else.
func TestAttacksOnH3(t *testing.T) {
	for name, attack := range attacksOnH3() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := besiege(t, protopeer.H3)
			b.endure(func() {
				a := b.attackH3(1 << 20)
				a.flood(floodSize, func(i int) { attack(a, i) })
				a.wantEnded()
			})
		})
	}
}

// TestStallsOnH3: streams that nobody reads are ended by the timeouts, and the
// connection of whoever goes on with it.
func TestStallsOnH3(t *testing.T) {
	t.Parallel()
	b := besiege(t, protopeer.H3)
	b.growth *= 2 // 100 responses that are under way, and QUIC's part of them
	b.endure(func() {
		a := b.attackH3(100)
		a.flood(floodSize, func(int) { a.open("GET", "/big"); a.stream.Close() })
		a.wantEnded()
	})
}
