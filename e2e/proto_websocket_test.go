package e2e

import (
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/strict"
)

// socketRequest is what opens a WebSocket: an upgrade, or an extended CONNECT
// (RFC 8441, RFC 9220), which has no key.
func socketRequest(e edge) protopeer.Request {
	r := protopeer.Request{Authority: "aaaa.test", Path: "/socket?x=y", Protocol: "websocket", Fields: protopeer.Fields{
		{Name: "sec-websocket-version", Value: "13"}, {Name: "sec-websocket-protocol", Value: "echo"}, {Name: "origin", Value: "https://aaaa.test"}}}
	if e.Proto == protopeer.H1 {
		r.Fields = append(r.Fields, protopeer.Field{Name: "Sec-WebSocket-Key", Value: "dGhlIHNhbXBsZSBub25jZQ=="})
	}
	return r
}

// openSocket opens a WebSocket and wants it accepted.
func (e edge) openSocket(c protopeer.Conn) protopeer.Stream {
	e.t.Helper()
	s := e.open(c, socketRequest(e), false)
	h, want := e.head(s), 200
	if e.Proto == protopeer.H1 {
		want = 101
	}
	if h.Status != want || h.Fields.Get("Sec-WebSocket-Protocol") != "echo" {
		e.t.Fatalf("%d %v", h.Status, h.Fields)
	}
	if e.Proto != protopeer.H1 && (h.Fields.Get("Upgrade") != "" || h.Fields.Get("Sec-WebSocket-Accept") != "" || h.Fields.Get("Content-Length") != "") {
		e.t.Errorf("fields of another protocol: %v", h.Fields)
	}
	return s
}

// frameOf is a text message as a client sends it, masked with zeros.
func frameOf(opcode byte, message string) string {
	b := []byte{0x80 | opcode}
	switch n := len(message); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return string(append(b, 0, 0, 0, 0)) + message
}

// readFrame reads one frame of a server.
func readFrame(r io.Reader) (opcode byte, message string, err error) {
	h := make([]byte, 10)
	if _, err := io.ReadFull(r, h[:2]); err != nil {
		return 0, "", err
	}
	n := uint64(h[1])
	switch n {
	case 126:
		_, err = io.ReadFull(r, h[2:4])
		n = uint64(binary.BigEndian.Uint16(h[2:]))
	case 127:
		_, err = io.ReadFull(r, h[2:10])
		n = binary.BigEndian.Uint64(h[2:])
	}
	if err != nil {
		return 0, "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return h[0] & 0xf, string(b), err
}

// echoOn sends a message and wants it back.
func (e edge) echoOn(s protopeer.Stream, message string) {
	e.t.Helper()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(s, frameOf(1, message))
		sent <- err
	}()
	opcode, got, err := readFrame(s)
	if err != nil || opcode != 1 || got != message {
		e.t.Fatalf("%.40q came back as %d %.40q, %v", message, opcode, got, err)
	}
	if err := <-sent; err != nil {
		e.t.Fatal(err)
	}
}

// TestProtoWebSocket: a known library's VM, messages of all sizes, a closing
// handshake and a clean end; other streams of the connection go on.
func TestProtoWebSocket(t *testing.T) {
	t.Parallel()
	vm := socketVM(t)
	u := start(t, `[sites]
"aaaa.test" = "%s"`, vm.URL)
	each(t, u, func(t *testing.T, e edge) {
		c := e.raw("aaaa.test")
		s := e.openSocket(c)
		e.echoOn(s, "hello")
		e.echoOn(s, strings.Repeat("large ", 500_000))
		if e.Proto != protopeer.H1 {
			other := e.openSocket(c)
			e.echoOn(other, "beside it")
			if err := stillServes(c, "aaaa.test"); err != nil {
				t.Error(err)
			}
			other.Cancel()
		}
		e.echoOn(s, "")
		e.send(s, frameOf(8, "\x03\xe8"))
		if opcode, _, err := readFrame(s); err != nil || opcode != 8 {
			t.Errorf("closing: %d, %v", opcode, err)
		}
		if rest, err := io.ReadAll(s); err != nil || len(rest) > 0 {
			t.Errorf("the end: %q, %v", rest, err)
		}
	})
}

// TestProtoWebSocketRequest: what the VM sees is the same upgrade in every
// protocol, with a key that its answer has to prove.
func TestProtoWebSocketRequest(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		return l.Say("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: echo\r\n" +
			"Sec-WebSocket-Accept: bm90IHRoZSBoYXNoIG9mIGl0\r\n\r\n")
	}))
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		s := e.open(e.raw("aaaa.test"), socketRequest(e), false)
		h, err := s.Head()
		if e.Proto != protopeer.H1 && err == nil && h.Status != 502 {
			t.Errorf("a false proof was believed: %d", h.Status)
		}
		q := newest(vm)
		for name, want := range map[string]string{"Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Protocol": "echo",
			"Origin": "https://aaaa.test", "Host": "aaaa.test"} {
			if got := q.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		if q.Method != "GET" || q.Target != "/socket?x=y" || len(q.Header.Get("Sec-WebSocket-Key")) != 24 ||
			!strings.EqualFold(q.Header.Get("Connection"), "upgrade") || q.Header.Has("Content-Length") || q.Header.Has("Transfer-Encoding") {
			t.Errorf("the VM got %s %s %v", q.Method, q.Target, q.Header)
		}
	})
}

// TestProtoWebSocketDeclined: a VM that does not switch answers as to any
// request.
func TestProtoWebSocketDeclined(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		a, err := protopeer.Finish(e.open(e.raw("aaaa.test"), socketRequest(e), false))
		if err != nil || a.Status != 403 || string(a.Body) != "no" {
			t.Errorf("%d %q, %v", a.Status, a.Body, err)
		}
		forged := socketRequest(e)
		forged.Fields[0].Value = "1337"
		n := len(vm.Requests())
		if h, err := e.open(e.raw("aaaa.test"), forged, false).Head(); err == nil && h.Status/100 != 4 {
			t.Errorf("version 1337: %d", h.Status)
		}
		if e.Proto != protopeer.H1 {
			other := socketRequest(e)
			other.Protocol = "h2c"
			if h, err := e.open(e.raw("aaaa.test"), other, false).Head(); err == nil && h.Status/100 == 2 {
				t.Errorf("another protocol: %d", h.Status)
			}
		}
		for _, q := range vm.Requests()[n:] {
			if q.Header.Has("Upgrade") {
				t.Errorf("a forged upgrade was passed on: %v", q.Header)
			}
		}
	})
}

// TestProtoWebSocketEnds: the end of either side is the end of the other:
// the VM hears of a client that goes, a client of a VM that breaks.
func TestProtoWebSocketEnds(t *testing.T) {
	t.Parallel()
	ended := make(chan bool, 10)
	vm := peer.Listen(t, func(l *peer.Link) {
		q, err := l.RequestHead()
		if err != nil {
			return
		}
		l.Say(fmt.Sprintf("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: echo\r\n"+
			"Sec-WebSocket-Accept: %s\r\n\r\nfrom the VM", acceptFor(q.Header.Get("Sec-WebSocket-Key"))))
		b := make([]byte, 4)
		if _, err := io.ReadFull(l.R, b); err == nil && string(b) == "quit" {
			return
		}
		io.Copy(io.Discard, l.R)
		ended <- true
	})
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		s := e.openSocket(e.raw("aaaa.test"))
		e.want(s, "from the VM")
		e.send(s, "stay")
		s.Cancel()
		soon(t, ended)

		s = e.openSocket(e.raw("aaaa.test"))
		e.want(s, "from the VM")
		e.send(s, "quit")
		if rest, err := io.ReadAll(s); len(rest) > 0 {
			t.Errorf("after the end: %q, %v", rest, err)
		}
	})
}

// acceptFor is the proof of RFC 6455 section 4.2.2.
func acceptFor(key string) string {
	h := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(h[:])
}
