package h3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"usher/proxy/message"
)

func TestThousandStreams(t *testing.T) {
	var all sync.WaitGroup
	all.Add(1000)
	together := make(chan struct{})
	go func() {
		all.Wait()
		close(together)
	}()
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		all.Done()
		select { // all of them are being served at once
		case <-together:
		case <-ctx.Done():
		}
		answer(ex, 200, []byte("hello"))
	}})
	var clients sync.WaitGroup
	for range 1000 / maxStreams {
		c := s.greeted()
		for range maxStreams {
			clients.Go(func() {
				if r := c.reply(c.send(get())); r.status != "200" || string(r.body) != "hello" || r.err != nil {
					t.Errorf("%+v", r)
				}
			})
		}
	}
	clients.Wait()
}

func TestStalledStreamBesideOthers(t *testing.T) {
	leave := make(chan struct{})
	s := start(t, &handler{serve: func(ctx context.Context, ex *message.Exchange) {
		if ex.Request.Body != nil && string(ex.Request.Method) == "PUT" {
			<-leave // a VM that does not read
		}
		size := 1 << 20
		if _, small := ex.Request.Header.Lookup("x-small"); small {
			size = 32 << 10
		}
		answer(ex, 200, bytes.Repeat([]byte("x"), size))
	}})
	c := s.greeted()
	var uploads sync.WaitGroup
	for range 20 { // as much as a stream takes, unread
		str := c.open(request("PUT", "x-small", "1"))
		uploads.Go(func() { str.Write(frame(frameData, make([]byte, 1<<20))) })
	}
	stalled := c.send(get()) // nobody reads this answer
	var others sync.WaitGroup
	for range 99 {
		others.Go(func() {
			if r := c.reply(c.send(get("x-small", "1"))); len(r.body) != 32<<10 || r.err != nil {
				t.Errorf("%d bytes, %v", len(r.body), r.err)
			}
		})
	}
	others.Wait()
	close(leave)
	if r := c.reply(stalled); len(r.body) != 1<<20 || r.err != nil {
		t.Errorf("the stalled one: %d bytes, %v", len(r.body), r.err)
	}
	c.CloseWithError(codeNone, "")
	uploads.Wait()
}

// heap is what is in use now.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}

func TestRapidReset(t *testing.T) {
	gone := func(_ context.Context, ex *message.Exchange) {
		left := make(chan struct{})
		ex.Stream.Watch(func() { close(left) })
		<-left
		ex.Stream.Watch(nil)
	}
	h := &handler{serve: gone}
	s := start(t, h)
	before := heap()
	c := s.greeted()
	for range 20000 {
		str, err := c.OpenStreamSync(t.Context())
		if err != nil {
			break
		}
		str.Write(get())
		str.Close()
		str.CancelRead(codeCancelled)
	}
	c.wantClosed(codeExcessive)
	if n := h.served.Load(); n > 200 {
		t.Errorf("%d requests reached the handler", n)
	}
	wait(t, "the server forgets the connection", func() bool { return s.closed.Load() == 1 })
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("memory grew by %d bytes", grown)
	}
	other := s.greeted()
	str := other.send(get())
	str.CancelRead(codeCancelled)
}

func TestCancellingALotIsNoAttack(t *testing.T) {
	s := start(t, &handler{serve: hello})
	c := s.greeted()
	for i := range 300 {
		str := c.send(get())
		if i%3 == 0 {
			str.CancelRead(codeCancelled)
			continue
		}
		if r := c.reply(str); r.status != "200" {
			t.Fatalf("%d: %+v", i, r)
		}
	}
	if c.Context().Err() != nil {
		t.Error(context.Cause(c.Context()))
	}
}

// flood sends until the connection ends.
func flood(c *raw, send func() error) {
	for range 20000 {
		if send() != nil {
			return
		}
	}
}

func TestFloods(t *testing.T) {
	h := &handler{serve: hello}
	s := start(t, h)
	bad := headers(":method", "GET")
	for name, prepare := range map[string]func(*raw) func() error{
		"malformed": func(c *raw) func() error {
			return func() error {
				str, err := c.OpenStreamSync(t.Context())
				if err == nil {
					str.Write(bad)
					str.Close() // fails when the server was quicker to stop the stream
				}
				return err
			}
		},
		"refused": func(c *raw) func() error {
			return func() error {
				str, err := c.OpenStreamSync(t.Context())
				if err == nil {
					str.Write(headers(":method", "CONNECT", ":authority", "a:1"))
					str.Close()
					str.CancelRead(codeNone)
				}
				return err
			}
		},
		"unknown frames": func(c *raw) func() error {
			str := c.open(request("POST"))
			return func() error { _, err := str.Write(frame(reserved, nil)); return err }
		},
		"one endless unknown frame": func(c *raw) func() error {
			str := c.open(append(request("POST"), 0x21, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff))
			return func() error { _, err := str.Write(make([]byte, 1024)); return err }
		},
		"empty DATA": func(c *raw) func() error {
			str := c.open(request("POST"))
			return func() error { _, err := str.Write(frame(frameData, nil)); return err }
		},
		"control frames": func(c *raw) func() error {
			str := c.uni(streamControl, frameSettings, 0)
			return func() error { _, err := str.Write(frame(frameMaxPushID, []byte{1})); return err }
		},
		"encoder stream": func(c *raw) func() error {
			str := c.uni(streamEncoder)
			return func() error { _, err := str.Write([]byte{0x20}); return err }
		},
		"decoder stream": func(c *raw) func() error {
			str := c.uni(streamDecoder)
			return func() error { _, err := str.Write([]byte{0x41}); return err }
		},
		"unknown streams": func(c *raw) func() error {
			return func() error {
				str, err := c.OpenUniStreamSync(t.Context())
				if err == nil {
					str.Write([]byte{0x21, 1})
					str.Close()
				}
				return err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial()
			c.t = t
			before := h.served.Load()
			flood(c, prepare(c))
			c.wantClosed(codeExcessive)
			if n := h.served.Load() - before; n > 200 {
				t.Errorf("%d requests reached the handler", n)
			}
		})
	}
}

// slow is a configuration with one limit that is short.
func slow(change func(*Config)) func(*Options) {
	c := testConfig
	change(&c)
	return func(o *Options) { o.Config = func() *Config { return &c } }
}

func TestSlowHead(t *testing.T) {
	h := &handler{serve: hello}
	s := start(t, h, slow(func(c *Config) { c.RequestHead = 50 * time.Millisecond }))
	c := s.greeted()
	r := c.reply(c.open(get()[:10]))
	wantStream(t, r.err, codeIncomplete)
	if got := h.refused(); len(got) != 1 || got[0] != 408 {
		t.Errorf("the log says %v", got)
	}
	if r := c.reply(c.send(get())); r.status != "200" {
		t.Errorf("%+v", r)
	}
}

func TestSlowBody(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		_, err := io.ReadAll(ex.Request.Body)
		var e *message.Error
		if !errors.As(err, &e) || e.Side != message.ClientSide {
			t.Errorf("%v", err)
			return
		}
		answer(ex, e.Status, nil)
	}}, slow(func(c *Config) { c.Timeouts.RequestBody = 50 * time.Millisecond }))
	c := s.greeted()
	if r := c.reply(c.open(slices(request("POST"), frame(frameData, []byte("a"))))); r.status != "408" || r.err != nil {
		t.Errorf("%+v", r)
	}
}

func TestBodyLimitEndsWithTheAnswer(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		read := make(chan error)
		go func() {
			_, err := io.ReadAll(ex.Request.Body)
			read <- err
		}()
		ex.Stream.WriteHead(&message.Response{Status: 200, Length: message.Unknown})
		ex.Stream.Flush()
		if err := <-read; err != nil {
			t.Errorf("a client that has its head may send when it likes: %v", err)
		}
		ex.Stream.CloseWrite(nil)
	}}, slow(func(c *Config) { c.Timeouts.RequestBody = 100 * time.Millisecond }))
	c := s.greeted()
	str := c.open(request("POST"))
	in := input{read: str.Read, buf: make([]byte, 1<<10)}
	if _, _, err := in.header(); err != nil {
		t.Fatal(err)
	}
	<-time.After(250 * time.Millisecond) // longer than the limit
	str.Write(frame(frameData, []byte("a")))
	str.Close()
	if _, err := io.Copy(io.Discard, str); err != nil {
		t.Error(err)
	}
}

func TestSlowReader(t *testing.T) {
	failed := make(chan error, 1)
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		failed <- answer(ex, 200, make([]byte, 20<<20))
	}}, slow(func(c *Config) { c.Timeouts.ResponseWrite = 50 * time.Millisecond }))
	c := s.greeted()
	str := c.send(get())
	err := <-failed
	var e *message.Error
	if !errors.As(err, &e) || e.Side != message.ClientSide {
		t.Errorf("%v", err)
	}
	wantStream(t, c.reply(str).err, codeCancelled)
}

func TestIdleConnection(t *testing.T) {
	s := start(t, &handler{serve: hello}, slow(func(c *Config) { c.KeepAlive = 100 * time.Millisecond }))
	c := s.greeted()
	if r := c.reply(c.send(get())); r.status != "200" {
		t.Errorf("%+v", r)
	}
	wait(t, "the connection ends", func() bool { return c.Context().Err() != nil })
	wait(t, "the server forgets it", func() bool { return s.closed.Load() == 1 })
}

func TestSilentVMKeepsTheConnection(t *testing.T) {
	release := make(chan struct{})
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		<-release
		answer(ex, 200, nil)
	}}, slow(func(c *Config) { c.KeepAlive = 200 * time.Millisecond }))
	c := s.greeted()
	str := c.send(get())
	time.AfterFunc(time.Second, func() { close(release) })
	if r := c.reply(str); r.status != "200" {
		t.Errorf("%+v", r)
	}
}

func TestWebSocket(t *testing.T) {
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		req := &ex.Request
		key, _ := req.Header.Get(message.SecWebSocketKey)
		if string(req.Method) != "GET" || string(req.Upgrade) != "websocket" || len(key) != 24 {
			answer(ex, 400, nil)
			return
		}
		resp := &message.Response{Status: 101, Upgrade: req.Upgrade}
		resp.Header.AddString("Sec-WebSocket-Accept", acceptance(string(key)))
		resp.Header.AddString("Sec-WebSocket-Protocol", "chat")
		if err := ex.Stream.WriteHead(resp); err != nil {
			t.Error(err)
			return
		}
		d, err := ex.Stream.Upgrade()
		if err != nil {
			t.Error(err)
			return
		}
		defer d.Close()
		if s, ahead := d.Socket(); s != nil || ahead != nil {
			t.Error("a socket")
		}
		io.Copy(d, d)
		d.CloseWrite()
	}})
	c := s.greeted()
	open := func(lines ...string) []byte {
		return headers(append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "site.test", ":path", "/chat"}, lines...)...)
	}
	str := c.send(slices(open("sec-websocket-version", "13"), frame(frameData, []byte("ping")), frame(frameData, []byte("pong"))))
	r := c.reply(str)
	if r.status != "200" || string(r.body) != "pingpong" || r.err != nil || r.header["sec-websocket-protocol"] != "chat" {
		t.Errorf("%+v", r)
	}
	if _, has := r.header["sec-websocket-accept"]; has {
		t.Error("the handshake of HTTP/1.1 came through")
	}
	if r = c.reply(c.send(open("sec-websocket-version", "12"))); r.status != "426" || r.header["sec-websocket-version"] != "13" {
		t.Errorf("%+v", r)
	}
	if r = c.reply(c.send(headers(":method", "CONNECT", ":protocol", "h2c", ":scheme", "https", ":authority", "site.test", ":path", "/"))); r.status != "501" {
		t.Errorf("%+v", r)
	}
}

func TestClientLeavesATunnel(t *testing.T) {
	ended := make(chan error, 1)
	s := start(t, &handler{serve: func(_ context.Context, ex *message.Exchange) {
		ex.Stream.WriteHead(&message.Response{Status: 101, Upgrade: ex.Request.Upgrade})
		d, err := ex.Stream.Upgrade()
		if err != nil {
			t.Error(err)
			return
		}
		_, err = io.Copy(io.Discard, d)
		d.Abort(err)
		ended <- err
	}})
	c := s.greeted()
	str := c.open(headers(":method", "CONNECT", ":protocol", "x", ":scheme", "https", ":authority", "site.test", ":path", "/"))
	in := input{read: str.Read, buf: make([]byte, 1<<10)}
	if _, _, err := in.header(); err != nil {
		t.Fatal(err)
	}
	str.CancelWrite(codeConnect)
	if err := <-ended; !errors.Is(err, message.ErrClientGone) {
		t.Error(err)
	}
	var se *quic.StreamError
	if _, err := io.Copy(io.Discard, str); !errors.As(err, &se) || se.ErrorCode != codeConnect {
		t.Error(err)
	}
}
