package h1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"usher/proxy/message"
)

// once has the next exchange of a scene served by f.
func once(t *testing.T, request string, f func(*scene, *message.Exchange)) {
	t.Helper()
	s := newScene(t, &defaults)
	served := make(chan bool)
	s.conn.handler = handlerFunc(func(ex *message.Exchange) {
		defer close(served)
		f(s, ex)
		answer(ex, "done")
	})
	s.start()
	s.send(request)
	<-served
}

func TestWhatIsKnownOfAFailure(t *testing.T) {
	for name, c := range map[string]struct {
		prepare                func(*scene) *VM
		replay, sent, answered bool
	}{
		"the connection cannot be written to": {func(s *scene) *VM {
			near, _ := pair(s.t)
			near.CloseWrite()
			return NewVM(near, near)
		}, true, false, false},
		"closed without an answer": {func(s *scene) *VM {
			near, far := pair(s.t)
			far.CloseWrite()
			return NewVM(near, near)
		}, false, true, false},
		"closed inside an answer": {func(s *scene) *VM {
			near, far := pair(s.t)
			io.WriteString(far, "HTTP/1.1 2")
			far.CloseWrite()
			return NewVM(near, near)
		}, false, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			once(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(s *scene, ex *message.Exchange) {
				v := c.prepare(s)
				err := v.RoundTrip(context.Background(), ex, 0)
				var e *message.Error
				if !errors.As(err, &e) || e.Side != message.VMSide || e.Status != 502 || e.Replay != c.replay {
					t.Errorf("%v, want a 502 of the VM with Replay %v", err, c.replay)
				}
				if v.Sent() != c.sent || v.Answered() != c.answered {
					t.Errorf("sent %v, answered %v; want %v, %v", v.Sent(), v.Answered(), c.sent, c.answered)
				}
				if v.Finish() {
					t.Error("the connection is to be used again")
				}
				v.Close()
			})
		})
	}
}

func TestUnsentRequestGoesToAnotherVM(t *testing.T) {
	long := strings.Repeat("0123456789", 1000) // not read with the head
	for name, body := range map[string]string{
		"length":      "Content-Length: 5\r\n\r\nhello",
		"chunks":      "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"long":        "Content-Length: 10000\r\n\r\n" + long,
		"long chunks": "Transfer-Encoding: chunked\r\n\r\n2710\r\n" + long + "\r\n0\r\n\r\n",
	} {
		want := int64(5)
		if len(body) > len(long) {
			want = int64(len(long))
		}
		t.Run(name, func(t *testing.T) {
			once(t, "POST / HTTP/1.1\r\nHost: x\r\n"+body, func(s *scene, ex *message.Exchange) {
				near, _ := pair(s.t)
				near.CloseWrite()
				bad := NewVM(near, near)
				if err := bad.RoundTrip(context.Background(), ex, 0); err == nil {
					t.Error("RoundTrip succeeded")
				}
				bad.Close()
				bad.Finish()
				if !ex.Request.Body.(*requestBody).Untouched() {
					t.Error("the body was touched")
				}
				near, far := pair(s.t)
				good := NewVM(near, near)
				io.WriteString(far, "HTTP/1.1 204 No Content\r\n\r\n")
				if err := good.RoundTrip(context.Background(), ex, 0); err != nil || !good.Finish() {
					t.Errorf("RoundTrip: %v", err)
				}
				expect(t, far, "POST / HTTP/1.1\r\nHost: x\r\n"+body)
				if ex.Trace.Received != want {
					t.Errorf("%d bytes received, want %d", ex.Trace.Received, want)
				}
				good.Close()
			})
		})
	}
}

// TestShortBodyNeedsNoGoroutine: what has arrived of a body goes with the head.
func TestShortBodyNeedsNoGoroutine(t *testing.T) {
	body := strings.Repeat("0123456789", 1000)
	request := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n" + body
	once(t, request, func(s *scene, ex *message.Exchange) {
		near, far := pair(s.t)
		v := NewVM(near, near)
		io.WriteString(far, "HTTP/1.1 204 No Content\r\n\r\n")
		if err := v.RoundTrip(context.Background(), ex, 0); err != nil {
			t.Error(err)
		}
		if v.up.moved {
			t.Error("the body went after the head")
		}
		expect(t, far, request)
		if !v.Finish() {
			t.Error("the connection cannot be used again")
		}
		v.Close()
	})
}

func TestInterruptedUploadIsResumed(t *testing.T) {
	once(t, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe", func(s *scene, ex *message.Exchange) {
		near, far := pair(s.t)
		v := NewVM(near, near)
		go func() {
			expect(t, far, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe")
			far.Close()
		}()
		if err := v.RoundTrip(context.Background(), ex, 0); err == nil {
			t.Error("RoundTrip succeeded")
		}
		v.Close()
		v.Finish()
		body := ex.Request.Body.(*requestBody)
		if _, err := body.Read(make([]byte, 9)); err != errFinished {
			t.Errorf("Read after Stop: %v", err)
		}
		body.Resume()
		s.send("llo")
		if got, err := io.ReadAll(body); string(got) != "llo" || err != nil {
			t.Errorf("read %q (%v) after Resume", got, err)
		}
	})
}

func TestAnswerBeforeAReset(t *testing.T) {
	s := newScene(t, &defaults).start()
	go func() {
		io.WriteString(s.client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
		for range 100 {
			if _, err := io.WriteString(s.client, strings.Repeat("x", 100_000)); err != nil {
				return
			}
		}
	}()
	vm := s.vm()
	readHead(t, vm)
	write(t, vm, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
	vm.SetLinger(0)
	vm.Close() // with unread bytes, so that it is a reset
	resp, err := http.ReadResponse(bufio.NewReader(s.client), nil)
	if err != nil {
		t.Fatal(err)
	}
	// The reset may have overtaken the answer.
	if resp.StatusCode != 413 && resp.StatusCode != 502 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestCloseUnblocksRoundTrip(t *testing.T) {
	once(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(s *scene, ex *message.Exchange) {
		near, far := pair(s.t)
		v := NewVM(near, near)
		go func() {
			expect(t, far, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			v.Close()
		}()
		if err := v.RoundTrip(context.Background(), ex, 0); err == nil || v.Finish() {
			t.Errorf("RoundTrip: %v", err)
		}
	})
}

func TestIdleSeesWhatDoesNotBelongThere(t *testing.T) {
	for name, disturb := range map[string]func(io.WriteCloser){
		"bytes": func(c io.WriteCloser) { io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n") },
		"end":   func(c io.WriteCloser) { c.Close() },
	} {
		near, far := pair(t)
		v := NewVM(near, near)
		if !v.Idle() {
			t.Errorf("%s: not idle at first", name)
		}
		disturb(far)
		if near.WaitReadable(defaultDeadline()); v.Idle() {
			t.Errorf("%s: still idle", name)
		}
	}
}

func TestFaultyBodyAtHandReachesNoVM(t *testing.T) {
	for _, body := range []string{"zz\r\n", "0x1\r\na\r\n0\r\n\r\n", "1\r\naX", "0\r\nA : b\r\n\r\n"} {
		s := newScene(t, &defaults).start()
		s.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
		vm := s.vm()
		expectEnd(t, vm)
		if got, err := io.ReadAll(s.client); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 400 ") {
			t.Errorf("%q: got %q (%v), want a 400", body, got, err)
		}
	}
}

func TestStoppedResponseEndsTheConnection(t *testing.T) {
	why := errors.New("drained")
	once(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n", func(s *scene, ex *message.Exchange) {
		near, far := pair(s.t)
		v := NewVM(near, near)
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe")
		if err := v.RoundTrip(context.Background(), ex, 0); err != nil {
			t.Error(err)
		}
		body := ex.Response.Body
		got := make(chan error)
		go func() {
			_, err := io.ReadAll(body)
			got <- err
		}()
		body.Stop(why)
		if err := <-got; err != why || v.Finish() {
			t.Errorf("Read: %v, want %v", err, why)
		}
		v.Close()
	})
}

// wrapped is a body that hides what it is, like one that is kept for a replay.
type wrapped struct{ message.Body }

func (w wrapped) Buffered() int { return w.Body.(*requestBody).Buffered() }

// opaque hides everything.
type opaque struct{ message.Body }

func TestWrappedBodies(t *testing.T) {
	for name, wrap := range map[string]func(message.Body) message.Body{
		"wrapped": func(b message.Body) message.Body { return wrapped{b} },
		"opaque":  func(b message.Body) message.Body { return opaque{b} },
	} {
		for _, v := range [][2]string{
			{"Content-Length: 5\r\n\r\nhe", "llo"},
			{"Content-Length: 5\r\n\r\nhello", ""},
			{"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n", "3\r\nllo\r\n0\r\nA: b\r\n\r\n"},
		} {
			t.Run(name, func(t *testing.T) {
				s := newScene(t, &defaults)
				s.relay.setup = func(ex *message.Exchange) { ex.Request.Body = wrap(ex.Request.Body) }
				s.start()
				s.send("PUT / HTTP/1.1\r\nHost: x\r\n" + v[0])
				vm := s.vm()
				expect(t, vm, "PUT / HTTP/1.1\r\nHost: x\r\n"+v[0])
				s.send(v[1])
				expect(t, vm, v[1])
				write(t, vm, "HTTP/1.1 204 No Content\r\n\r\n")
				readHead(t, s.client)
			})
		}
	}
}

// TestEndedConnectionIsSeenBeforeAPost: a request that may not be sent twice is
// not risked on a connection that has ended, however late the loop tells it.
func TestEndedConnectionIsSeenBeforeAPost(t *testing.T) {
	near, far := pair(t)
	v := NewVM(near, near)
	go func() {
		far.Read(make([]byte, 1000))
		far.Write([]byte(answer200))
	}()
	get := &message.Exchange{Request: message.Request{Method: []byte("GET"), Path: []byte("/"), Authority: []byte("x")}}
	if err := v.RoundTrip(t.Context(), get, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(get.Response.Body); err != nil || !v.Finish() {
		t.Fatal(err)
	}
	far.Close()
	for near.Idle() {
		runtime.Gosched()
	}
	post := &message.Exchange{Request: message.Request{Method: []byte("POST"), Path: []byte("/"), Authority: []byte("x")}}
	err := v.RoundTrip(t.Context(), post, 0)
	var e *message.Error
	if !errors.As(err, &e) || !e.Replay || v.Sent() {
		t.Errorf("err = %v, sent %v", err, v.Sent())
	}
	v.Finish()
}
