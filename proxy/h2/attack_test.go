package h2

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

const attackFrames = 20_000

// frames builds what an attacker sends, in memory.
type frames struct {
	*peer
	b *bytes.Buffer
}

func newFrames(t testing.TB) *frames {
	f := &frames{peer: newPeer(t, nil), b: new(bytes.Buffer)}
	f.fr = http2.NewFramer(f.b, nil)
	f.fr.AllowIllegalWrites = true
	f.b.WriteString(http2.ClientPreface)
	f.fr.WriteSettings()
	f.fr.WriteSettingsAck()
	return f
}

// attacks are the floods of RFC 9113 section 10.5 and its CVEs.
var attacks = map[string]func(f *frames){
	"rapid reset": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.get(id)
			f.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		}
	},
	"reset after a burst": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 200 {
			for i := uint32(0); i < 200; i += 2 {
				f.get(id + i)
			}
			for i := uint32(0); i < 200; i += 2 {
				f.fr.WriteRSTStream(id+i, http2.ErrCodeCancel)
			}
		}
	},
	"made you reset: window of zero": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id)
			f.fr.WriteWindowUpdate(id, 0)
		}
	},
	"made you reset: window overflow": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id)
			f.fr.WriteWindowUpdate(id, 1<<31-1)
		}
	},
	"made you reset: data after the end": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.get(id)
			f.fr.WriteData(id, true, nil)
		}
	},
	"made you reset: priority on itself": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id)
			f.fr.WritePriority(id, http2.PriorityParam{StreamDep: id})
		}
	},
	"made you reset: priority of a wrong size": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id)
			f.fr.WriteRawFrame(http2.FramePriority, 0, id, make([]byte, 4))
		}
	},
	"made you reset: length": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id, "content-length", "1")
			f.fr.WriteData(id, true, []byte("xx"))
		}
	},
	"malformed": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.get(id, "transfer-encoding", "chunked")
		}
	},
	"refused": func(f *frames) {
		for id := uint32(1); id < 2*attackFrames; id += 2 {
			f.post(id)
		}
	},
	"continuation": func(f *frames) {
		f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(":method", "GET")})
		name := f.block("x", string(bytes.Repeat([]byte("a"), 1000)))
		for range attackFrames {
			f.fr.WriteContinuation(1, false, name)
		}
	},
	"empty continuation": func(f *frames) {
		f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: f.block(":method", "GET")})
		for range attackFrames {
			f.fr.WriteContinuation(1, false, nil)
		}
	},
	"hpack bomb": func(f *frames) {
		value := string(bytes.Repeat([]byte("a"), 3900))
		f.get(1, "x", value)
		ref := bytes.Repeat([]byte{0x80 | 62}, 1<<10)
		for id := uint32(3); id < 2*attackFrames; id += 2 {
			f.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: ref, EndStream: true, EndHeaders: true})
		}
	},
	"settings": func(f *frames) {
		for range attackFrames {
			f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		}
	},
	"ping": func(f *frames) {
		for range attackFrames {
			f.fr.WritePing(false, [8]byte{})
		}
	},
	"empty data": func(f *frames) {
		f.post(1)
		for range attackFrames {
			f.fr.WriteData(1, false, nil)
		}
	},
	"priority": func(f *frames) {
		for range attackFrames {
			f.fr.WritePriority(3, http2.PriorityParam{StreamDep: 1})
		}
	},
	"priority update": func(f *frames) {
		for range attackFrames {
			f.fr.WritePriorityUpdate(3, "u=1")
		}
	},
	"window update": func(f *frames) {
		f.post(1)
		for range attackFrames {
			f.fr.WriteWindowUpdate(1, 1)
		}
	},
	"unknown frames": func(f *frames) {
		for range attackFrames {
			f.fr.WriteRawFrame(0x42, 0, 0, []byte("x"))
		}
	},
}

// TestAttacks sends each flood on one connection: it is ended, few requests
// get through, memory stays flat.
func TestAttacks(t *testing.T) {
	for name, build := range attacks {
		t.Run(name, func(t *testing.T) {
			f := newFrames(t)
			build(f)
			var vm atomic.Int32
			srv, c := serve(t, &testConfig, func(ctx context.Context, ex *message.Exchange) {
				vm.Add(1)
				gone := make(chan struct{})
				ex.Stream.Watch(func() { close(gone) })
				<-gone // a VM that is slow
				ex.Stream.Watch(nil)
			})
			before := inUse()
			peak := watchMemory(t)
			go func() { io.Copy(io.Discard, c); c.Close() }()
			c.Write(f.b.Bytes()) // fails once the connection is ended
			err := srv.wait(t)
			if err == nil {
				t.Error("the connection ended in order")
			}
			if n := vm.Load(); n > 200 {
				t.Errorf("%d requests got through", n)
			}
			if rise := int64(peak()) - int64(before); rise > 8<<20 {
				t.Errorf("memory rose by %d KiB", rise>>10)
			}
		})
	}
}

func inUse() uint64 {
	runtime.GC()
	return memory()
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// watchMemory samples until the function that it returns is called.
func watchMemory(t *testing.T) (peak func() uint64) {
	stop, top := make(chan struct{}), make(chan uint64)
	go func() {
		highest := uint64(0)
		for {
			select {
			case <-stop:
				top <- highest
				return
			case <-time.After(5 * time.Millisecond):
				highest = max(highest, memory())
			}
		}
	}()
	return func() uint64 { close(stop); return <-top }
}

// TestCancellingABrowserIsNoAttack: resets of less than half of the streams.
func TestCancellingABrowserIsNoAttack(t *testing.T) {
	_, c := serve(t, &testConfig, hello)
	p := client(t, c)
	for id := uint32(1); id < 1200; id += 6 {
		p.get(id)
		p.get(id + 2)
		p.get(id + 4)
		p.fr.WriteRSTStream(id, http2.ErrCodeCancel)
		if r := p.await(id + 4); r.status != "200" {
			t.Fatalf("stream %d: %+v", id+4, r)
		}
	}
}

// TestLongHeaderIsAnswered: over the limit, but no flood.
func TestLongHeaderIsAnswered(t *testing.T) {
	srv, c := serve(t, &testConfig, hello)
	p := client(t, c)
	big := string(bytes.Repeat([]byte("~"), 40_000))
	block := append([]byte(nil), p.block(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/", "x", big, "y", big)...)
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block[:maxFrame], EndStream: true})
	for rest := block[maxFrame:]; len(rest) > 0; {
		n := min(len(rest), maxFrame)
		p.fr.WriteContinuation(1, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	if r := p.await(1); r.status != "431" {
		t.Fatalf("%+v", r)
	}
	p.get(3)
	if r := p.await(3); r.status != "200" {
		t.Fatalf("after it: %+v", r)
	}
	if got := srv.refused(); len(got) != 1 || got[0] != 431 {
		t.Errorf("malformed %v", got)
	}
}

// TestSlowHead: a header block that never ends.
func TestSlowHead(t *testing.T) {
	cfg := testConfig
	cfg.RequestHead = 50 * time.Millisecond
	srv, c := serve(t, &cfg, hello)
	p := client(t, c)
	p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.block(":method", "GET")})
	if err := srv.wait(t); !isCalm(err) {
		t.Errorf("ended with %v", err)
	}
}

func TestSlowPreface(t *testing.T) {
	cfg := testConfig
	cfg.RequestHead = 50 * time.Millisecond
	srv, c := serve(t, &cfg, hello)
	io.WriteString(c, http2.ClientPreface[:10])
	if err := srv.wait(t); err == nil {
		t.Error("ended in order")
	}
}

// TestWindowOfZero: a client that never lets us send loses the stream, and the
// others do not notice.
func TestWindowOfZero(t *testing.T) {
	cfg := testConfig
	cfg.Timeouts.ResponseWrite = 100 * time.Millisecond
	stalled := make(chan error, 1)
	_, c := serve(t, &cfg, func(_ context.Context, ex *message.Exchange) {
		err := answer(ex, 200, make([]byte, 100))
		if ex.Request.Header.Len() > 0 {
			stalled <- err
		}
	})
	p := client(t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.get(1, "x", "y")
	p.get(3)
	p.fr.WriteWindowUpdate(3, 1000)
	if r := p.await(3); r.status != "200" || len(r.body) != 100 {
		t.Fatalf("%+v", r)
	}
	if r := p.await(1); r.reset == nil || *r.reset != http2.ErrCodeCancel {
		t.Fatalf("%+v", r)
	}
	if err := <-stalled; err == nil {
		t.Error("the write succeeded")
	}
}

// TestUnreadAnswers: a client that asks and never reads.
func TestUnreadAnswers(t *testing.T) {
	srv, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) { answer(ex, 200, make([]byte, 1<<20)) })
	c.(*net.TCPConn).SetReadBuffer(4096)
	f := newFrames(t)
	f.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	f.fr.WriteWindowUpdate(0, 1<<30)
	for id := uint32(1); id < 200; id += 2 {
		f.get(id)
	}
	c.Write(f.b.Bytes())
	for {
		if _, err := c.Write([]byte{0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
			break
		}
	}
	if err := srv.wait(t); err == nil {
		t.Error("ended in order")
	}
}

// TestDribble: a client that takes a response byte by byte (CVE-2019-9511)
// explains nothing with the frames that it causes.
func TestDribble(t *testing.T) {
	srv, c := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
		if err := answer(ex, 200, make([]byte, 1<<20)); err != nil {
			ex.Stream.Abort(err)
		}
	})
	p := client(t, c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	p.get(1)
	for range attackFrames {
		p.fr.WriteWindowUpdate(1, 1)
		f, err := p.fr.ReadFrame()
		if _, isHead := f.(*http2.HeadersFrame); isHead {
			_, err = p.fr.ReadFrame()
		}
		if err != nil {
			break
		}
	}
	c.Close()
	if err := srv.wait(t); !isCalm(err) {
		t.Error(err)
	}
}
