package h1

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"usher/proxy/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestProxiedGET(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
	vm := s.vm()
	expect(t, vm, "GET /a?b=c HTTP/1.1\r\nHost: x\r\nAccept: */*\r\n\r\n")
	write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 5\r\n\r\nhello")
	expect(t, s.client, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 5\r\n\r\nhello")

	// The same two connections again.
	s.send("GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	expect(t, vm, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
	write(t, vm, "HTTP/1.1 204 No Content\r\n"+date+"\r\n")
	expect(t, s.client, "HTTP/1.1 204 No Content\r\n"+date+"Connection: close\r\n\r\n")
	expectEnd(t, s.client)
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	if s.relay.dialed != 1 {
		t.Errorf("%d connections to the VM, want 1", s.relay.dialed)
	}
}

func TestEarlyResponseDuringUpload(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nfirst")
	vm := s.vm()
	expect(t, vm, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nfirst")
	write(t, vm, "HTTP/1.1 413 Content Too Large\r\n"+date+"Content-Length: 2\r\n\r\nno")
	expect(t, s.client, "HTTP/1.1 413 Content Too Large\r\n"+date+"Content-Length: 2\r\nConnection: close\r\n\r\nno")
	expectEnd(t, s.client)
	<-s.served
	if s.relay.reused {
		t.Error("the connection to the VM was used again after half a request")
	}
}

func TestBothWaysAtOnce(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	vm := s.vm()
	expect(t, vm, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
	write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"Transfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
	expect(t, s.client, "HTTP/1.1 200 OK\r\n"+date+"Transfer-Encoding: chunked\r\n\r\n1\r\nA\r\n")
	for range 3 {
		s.send("2\r\nbb\r\n")
		expect(t, vm, "2\r\nbb\r\n")
		write(t, vm, "2\r\nBB\r\n")
		expect(t, s.client, "2\r\nBB\r\n")
	}
	s.send("0\r\n\r\n")
	expect(t, vm, "0\r\n\r\n")
	write(t, vm, "0\r\n\r\n")
	expect(t, s.client, "0\r\n\r\n")
	s.send("GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, vm, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n")
}

func TestContinueIsTheVMsToSay(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	vm := s.vm()
	expect(t, vm, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	write(t, vm, "HTTP/1.1 100 Continue\r\n\r\n")
	expect(t, s.client, "HTTP/1.1 100 Continue\r\n\r\n")
	s.send("body")
	expect(t, vm, "body")
	write(t, vm, "HTTP/1.1 201 Created\r\n"+date+"Content-Length: 0\r\n\r\n")
	expect(t, s.client, "HTTP/1.1 201 Created\r\n"+date+"Content-Length: 0\r\n\r\n")
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
}

func TestFinalAnswerInsteadOfContinue(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
	vm := s.vm()
	expect(t, vm, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
	write(t, vm, "HTTP/1.1 401 Unauthorized\r\n"+date+"Content-Length: 0\r\n\r\n")
	// Whether the body comes nobody knows, so nothing can follow on either side.
	expect(t, s.client, "HTTP/1.1 401 Unauthorized\r\n"+date+"Content-Length: 0\r\nConnection: close\r\n\r\n")
	expectEnd(t, s.client)
	<-s.served
	if s.relay.reused {
		t.Error("the connection to the VM was used again")
	}
}

// TestBodyBeforeContinue: a client that did not wait has nothing more to send,
// whatever the answer is.
func TestBodyBeforeContinue(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody")
	vm := s.vm()
	expect(t, vm, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody")
	write(t, vm, "HTTP/1.1 401 Unauthorized\r\n"+date+"Content-Length: 0\r\n\r\n")
	expect(t, s.client, "HTTP/1.1 401 Unauthorized\r\n"+date+"Content-Length: 0\r\n\r\n")
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
}

func TestUpgradeWithSurplusBytes(t *testing.T) {
	s := newScene(t, &defaults).start()
	head := "GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	s.send(head + "early")
	vm := s.vm()
	expect(t, vm, head)
	write(t, vm, "HTTP/1.1 101 Whatever\r\nconnection: upgrade\r\nupgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\nhello")
	expect(t, vm, "early")
	expect(t, s.client, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: y\r\n\r\nhello")
	s.send("up")
	expect(t, vm, "up")
	s.client.CloseWrite()
	expectEnd(t, vm)
	write(t, vm, "down")
	expect(t, s.client, "down")
	vm.Close()
	expectEnd(t, s.client)
	if err := <-s.served; err != ErrUpgraded {
		t.Errorf("Serve: %v, want ErrUpgraded", err)
	}
}

func TestUnreadBodyIsDrained(t *testing.T) {
	s := newScene(t, &defaults)
	s.conn.handler = handlerFunc(func(ex *message.Exchange) { answer(ex, "ok") })
	s.start()
	s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
	const ok = "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok"
	expect(t, s.client, ok)
	s.send("loGET / HTTP/1.1\r\nHost: x\r\n\r\n")
	expect(t, s.client, ok)
	s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nhel")
	expect(t, s.client, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 2\r\nConnection: close\r\n\r\nok")
	expectEnd(t, s.client)
}

func TestBodyFaultReachesTheClient(t *testing.T) {
	for body, status := range map[string]string{"3\r\nabcX": "400", "zz\r\n": "400"} {
		s := newScene(t, &defaults).start()
		s.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
		got, err := io.ReadAll(s.client)
		if m := statusLine.FindSubmatch(got); err != nil || m == nil || string(m[1]) != status {
			t.Errorf("%q: got %q (%v), want status %s", body, got, err, status)
		}
		if !bytes.Contains(got, []byte("Connection: close")) {
			t.Errorf("%q: the connection stays open", got)
		}
	}
}

func TestPanicIsAnsweredAndReported(t *testing.T) {
	s := newScene(t, &defaults)
	s.conn.handler = handlerFunc(func(*message.Exchange) { panic("boom") })
	s.start()
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	got, err := io.ReadAll(s.client)
	if err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 500 ")) {
		t.Errorf("got %q (%v), want a 500", got, err)
	}
	if err := <-s.served; err == nil || !strings.Contains(err.Error(), "boom") || !strings.Contains(err.Error(), "serve_test.go") {
		t.Errorf("Serve: %v, want the panic and its stack", err)
	}
}

func TestBrokenAnswersAreVisible(t *testing.T) {
	for name, h := range map[string]handlerFunc{
		"panic after the head": func(ex *message.Exchange) {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: 5})
			ex.Stream.Flush()
			panic("boom")
		},
		"short": func(ex *message.Exchange) {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: 5})
			ex.Stream.Write([]byte("four"))
			ex.Stream.Flush()
			if ex.Stream.CloseWrite(nil) == nil {
				t.Error("CloseWrite of a short body succeeded")
			}
		},
		"long": func(ex *message.Exchange) {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: 5})
			ex.Stream.Write([]byte("four"))
			ex.Stream.Flush()
			if _, err := ex.Stream.Write([]byte("and more")); err == nil {
				t.Error("Write beyond the length succeeded")
			}
		},
		"not closed": func(ex *message.Exchange) {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: message.Unknown})
			ex.Stream.Write([]byte("four"))
			ex.Stream.Flush()
		},
		"aborted": func(ex *message.Exchange) {
			ex.Stream.WriteHead(&message.Response{Status: 200, Length: message.Unknown})
			ex.Stream.Flush()
			ex.Stream.Abort(errShort)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, &defaults)
			s.conn.handler = h
			s.start()
			s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			got, err := io.ReadAll(s.client)
			if err == nil {
				t.Errorf("got %q and an orderly end", got)
			}
			if <-s.served == nil {
				t.Error("Serve says nothing of it")
			}
		})
	}
}

func TestNoAnswerIs500(t *testing.T) {
	s := newScene(t, &defaults)
	s.conn.handler = handlerFunc(func(*message.Exchange) {})
	s.start()
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if got, err := io.ReadAll(s.client); err != nil || !bytes.HasPrefix(got, []byte("HTTP/1.1 500 ")) {
		t.Errorf("got %q (%v), want a 500", got, err)
	}
}

func TestStopUnblocksRead(t *testing.T) {
	why := errors.New("enough")
	s := newScene(t, &defaults)
	s.conn.handler = handlerFunc(func(ex *message.Exchange) {
		body, got := ex.Request.Body, make(chan error)
		go func() {
			_, err := io.ReadAll(body)
			got <- err
		}()
		body.Stop(why)
		body.Stop(errors.New("later"))
		if err := <-got; err != why {
			t.Errorf("Read: %v, want %v", err, why)
		}
		answer(ex, "ok")
	})
	s.start()
	const ok = "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 2\r\n\r\nok"
	s.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	expect(t, s.client, ok)
	s.send("helloPOST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n")
	expect(t, s.client, ok)
}

func TestClientThatVanishesCancelsTheVM(t *testing.T) {
	for name, first := range map[string]string{
		"before the head": "",
		"in the body":     "HTTP/1.1 200 OK\r\n" + date + "Content-Length: 10\r\n\r\nhello",
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, &defaults).start()
			s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			vm := s.vm()
			expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			write(t, vm, first)
			if first != "" {
				expect(t, s.client, first)
			}
			left := time.Now()
			s.client.Close()
			vm.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := vm.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) || time.Since(left) > time.Second {
				t.Errorf("the VM was told after %v: %v", time.Since(left), err)
			}
			<-s.served
			if len(s.relay.failures) != 1 || !errors.Is(s.relay.failures[0], message.ErrClientGone) {
				t.Errorf("failures %v, want that the client has gone", s.relay.failures)
			}
		})
	}
}

func TestLargeBodiesBothWays(t *testing.T) {
	data := make([]byte, 5<<20+17)
	rand.NewChaCha8([32]byte{}).Read(data)
	for _, framing := range []string{"Content-Length: " + strconv.Itoa(len(data)), "Transfer-Encoding: chunked"} {
		t.Run(framing, func(t *testing.T) {
			s := newScene(t, &defaults).start()
			chunks := strings.HasPrefix(framing, "Transfer")
			go sendBody(s.client, "POST / HTTP/1.1\r\nHost: x\r\n"+framing+"\r\n\r\n", data, chunks)
			vm := s.vm()
			req, err := http.ReadRequest(bufio.NewReader(vm))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(req.Body); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("the VM got %d bytes (%v), want %d", len(got), err, len(data))
			}
			go sendBody(vm, "HTTP/1.1 200 OK\r\n"+framing+"\r\n\r\n", data, chunks)
			resp, err := http.ReadResponse(bufio.NewReader(s.client), nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, data) {
				t.Fatalf("the client got %d bytes (%v), want %d", len(got), err, len(data))
			}
		})
	}
}

// sendBody writes in pieces that fit no buffer.
func sendBody(w io.Writer, head string, data []byte, chunks bool) {
	io.WriteString(w, head)
	for n := 1; len(data) > 0; n = n*3%70001 + 1 {
		piece := data[:min(n, len(data))]
		data = data[len(piece):]
		if chunks {
			fmt.Fprintf(w, "%x\r\n%s\r\n", len(piece), piece)
		} else {
			w.Write(piece)
		}
	}
	if chunks {
		io.WriteString(w, "0\r\n\r\n")
	}
}

func TestDrainSaysClose(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	vm := s.vm()
	expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	s.conn.Drain()
	write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 0\r\n\r\n")
	expect(t, s.client, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 0\r\nConnection: close\r\n\r\n")
	expectEnd(t, s.client)
}

func TestDrainEndsAnIdleConnection(t *testing.T) {
	s := newScene(t, &defaults).start()
	s.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	vm := s.vm()
	expect(t, vm, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	write(t, vm, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 0\r\n\r\n")
	expect(t, s.client, "HTTP/1.1 200 OK\r\n"+date+"Content-Length: 0\r\n\r\n")
	s.conn.Drain()
	expectEnd(t, s.client)
	if err := <-s.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// handlerFunc answers by itself.
type handlerFunc func(*message.Exchange)

func (f handlerFunc) Serve(_ context.Context, ex *message.Exchange) { f(ex) }
func (handlerFunc) Malformed(*message.Exchange, *message.Error)     {}

// answer is a 200 with a Date that tests can expect.
func answer(ex *message.Exchange, text string) {
	r := &message.Response{Status: 200, Length: int64(len(text))}
	name, value, _ := strings.Cut(strings.TrimSuffix(date, "\r\n"), ": ")
	r.Header.AddString(name, value)
	ex.Stream.WriteHead(r)
	io.WriteString(ex.Stream, text)
	ex.Stream.CloseWrite(nil)
}
