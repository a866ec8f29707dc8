package upstream

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// refusingVM speaks HTTP/2 and refuses the first stream after having read all
// of it; the others are answered with their body.
func refusingVM(t *testing.T) Address {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.ReadFull(c, make([]byte, len(http2.ClientPreface)))
		f := http2.NewFramer(c, c)
		f.WriteSettings()
		bodies := make(map[uint32]string)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			d, ok := frame.(*http2.DataFrame)
			if !ok {
				continue
			}
			id := d.StreamID
			bodies[id] += string(d.Data())
			switch {
			case !d.StreamEnded():
			case id == 1:
				f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
			default:
				var head bytes.Buffer
				hpack.NewEncoder(&head).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
				f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head.Bytes(), EndHeaders: true})
				f.WriteData(id, true, []byte(bodies[id]))
			}
		}
	}()
	a := netip.MustParseAddrPort(l.Addr().String())
	return Address{Host: a.Addr().String(), Port: a.Port()}
}

// TestRefusedStreamIsSentAgain: what an HTTP/2 VM says that it has not
// processed is repeated, body and all, whatever the method.
func TestRefusedStreamIsSentAgain(t *testing.T) {
	s := spec(refusingVM(t))
	s.HTTP2 = true
	text := strings.Repeat("0123456789", 1000)
	wantAnswer(t, pool(t, s, Dialer{}), exchange("POST", text), text)
}
