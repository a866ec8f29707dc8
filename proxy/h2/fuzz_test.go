package h2

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// script turns bytes into frames on a connection: each step is an operation,
// a stream and an argument, so that mutations stay near what a client does.
func script(f *frames, b []byte) {
	for len(b) >= 3 {
		id, arg := uint32(b[1]%16), b[2]
		switch op := b[0]; op % 16 {
		case 0, 1:
			f.get(id)
		case 2:
			f.post(id)
		case 3:
			f.post(id, "content-length", strings.Repeat("1", int(arg%4)))
		case 4, 5:
			f.fr.WriteData(id, arg&1 != 0, make([]byte, int(arg)*64))
		case 6:
			f.fr.WriteDataPadded(id, arg&1 != 0, make([]byte, arg), make([]byte, arg))
		case 7:
			f.fr.WriteRSTStream(id, http2.ErrCode(arg))
		case 8:
			f.fr.WriteWindowUpdate(id, uint32(arg)<<(arg%24))
		case 9:
			f.fr.WriteSettings(http2.Setting{ID: http2.SettingID(arg % 10), Val: uint32(arg) << (b[1] % 24)})
		case 10:
			f.fr.WritePing(arg&1 != 0, [8]byte{arg})
		case 11:
			f.fr.WritePriorityUpdate(id, "u="+string(rune('0'+arg%10))+", i")
		case 12:
			f.headers(id, arg&1 != 0, "x-trailer", "y")
		case 13:
			f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{arg, 0x82, 0x84}, EndHeaders: arg&2 != 0, EndStream: arg&1 != 0})
		case 14:
			f.fr.WriteContinuation(id, arg&1 != 0, []byte{0x87, arg})
		case 15:
			f.fr.WriteRawFrame(http2.FrameType(arg), http2.Flags(b[1]), id, make([]byte, arg%32))
		}
		b = b[3:]
	}
}

// FuzzFrames: whatever frames come, Serve ends when the client leaves, every
// handler returns, and nothing panics.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 3, 0, 7, 3, 8})
	f.Add([]byte{2, 1, 0, 4, 1, 10, 12, 1, 1})
	f.Add([]byte{3, 1, 1, 4, 1, 1, 8, 1, 0, 9, 4, 200, 8, 0, 255})
	f.Add([]byte{13, 1, 0, 14, 1, 1, 10, 0, 0, 15, 9, 66, 11, 5, 3})
	for _, b := range vectors(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 3000 {
			return
		}
		steps := newFrames(t)
		script(steps, b)
		drive(t, steps.b.Bytes())
	})
}

// FuzzBytes is the same for bytes that need not be frames.
func FuzzBytes(f *testing.F) {
	steps := newFrames(f)
	script(steps, []byte{0, 1, 0, 2, 3, 0, 4, 3, 1})
	f.Add(steps.b.Bytes()[len(http2.ClientPreface):])
	f.Fuzz(func(t *testing.T, b []byte) {
		drive(t, append([]byte(http2.ClientPreface), b...))
	})
}

// drive sends bytes to a server, reads what it says, and leaves.
func drive(t *testing.T, b []byte) {
	srv, c := serve(t, &testConfig, func(ctx context.Context, ex *message.Exchange) { hello(ctx, ex) })
	drained := make(chan struct{})
	go func() { io.Copy(io.Discard, c); close(drained) }()
	c.Write(b)
	c.(interface{ CloseWrite() error }).CloseWrite()
	srv.wait(t)
	c.SetDeadline(time.Now())
	<-drained
	srv.Conn.mu.Lock()
	defer srv.Conn.mu.Unlock()
	if srv.Conn.running != 0 || srv.Conn.heads != 0 || srv.Conn.lent != lentWindow {
		t.Errorf("left behind: %d handlers, %d bytes of heads, %d of windows", srv.Conn.running, srv.Conn.heads, lentWindow-srv.Conn.lent)
	}
}

// vectors are scripts that once found something, in testdata/h2 of the
// project.
func vectors(t testing.TB) (all [][]byte) {
	names, err := filepath.Glob("../../testdata/h2/*.frames")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}
