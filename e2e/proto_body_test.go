package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"usher/e2e/peer"
	"usher/e2e/protopeer"
	"usher/e2e/rig"
	"usher/e2e/strict"
)

// serveHTTP starts Go's server on a loopback port.
func serveHTTP(t *testing.T, conf *tls.Config, h http.HandlerFunc) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, TLSConfig: conf, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if conf == nil {
			s.Serve(l)
			return
		}
		s.ServeTLS(l, "", "")
	}()
	t.Cleanup(func() { s.Close(); <-ended })
	return l.Addr().String()
}

// everyVM is an usher before one handler that it reaches in each version that
// a VM may speak; the sites are called after it.
func everyVM(t *testing.T, h http.HandlerFunc) (u *rig.Usher, hosts []string) {
	t.Helper()
	ca, dir := peer.NewCA(t), t.TempDir()
	peer.Replace(t, dir+"/ca.pem", ca.PEM)
	plain, secure := serveHTTP(t, nil, h), serveHTTP(t, ca.Server("secure.test"), h)
	u = start(t, `[sites]
"http1.test" = "http://%[1]s"
"h2c.test" = "h2c://%[1]s"
[sites."secure.test"]
to = "https://%[2]s"
ca_file = "%[3]s/ca.pem"
alpn = "h2"`, plain, secure, dir)
	return u, []string{"http1.test", "h2c.test", "secure.test"}
}

// TestProtoBodies: bodies of all sizes, of known and of unknown length, come
// back as they were, with a trailer both ways.
func TestProtoBodies(t *testing.T) {
	t.Parallel()
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		http.NewResponseController(w).EnableFullDuplex()
		if r.ProtoMajor == 2 && r.Header.Get("X-Flush") != "" { // then no length is made up, which HTTP/1.1 could not follow with a trailer
			http.NewResponseController(w).Flush()
		}
		h := sha256.New()
		io.Copy(w, io.TeeReader(r.Body, h))
		w.Header().Set("X-Sum", fmt.Sprintf("%x", h.Sum(nil)))
		w.Header().Set(http.TrailerPrefix+"X-Theirs", r.Trailer.Get("X-Mine"))
	})
	content := make([]byte, 3<<20)
	for i := range content {
		content[i] = byte(rand.Uint32())
	}
	each(t, u, func(t *testing.T, e edge) {
		c, flush := e.client(hosts...), ""
		if e.Proto == protopeer.H1 {
			flush = "yes"
		}
		for _, host := range hosts {
			for _, size := range []int{0, 1, 1000, 16384, 65536, 200_000, 3 << 20} {
				for _, known := range []bool{true, false} {
					if err := echoed(c, host, content[:size], known, flush); err != nil {
						t.Errorf("%s, %d bytes, length known %v: %v", host, size, known, err)
					}
				}
			}
		}
	})
}

// echoed sends a body and wants it back.
func echoed(c *http.Client, host string, content []byte, known bool, flush string) error {
	var body io.Reader = bytes.NewReader(content)
	if !known {
		body = io.MultiReader(body)
	}
	q, err := http.NewRequest("POST", "https://"+host+"/", body)
	if err != nil {
		return err
	}
	q.Header.Set("X-Flush", flush)
	if !known {
		q.Trailer = http.Header{"X-Mine": {"theirs"}}
	}
	p, err := c.Do(q)
	if err != nil {
		return err
	}
	defer p.Body.Close()
	got, err := io.ReadAll(p.Body)
	switch {
	case err != nil:
		return fmt.Errorf("after %d bytes: %w", len(got), err)
	case p.StatusCode != 200 || !bytes.Equal(got, content):
		return fmt.Errorf("%d with %d bytes", p.StatusCode, len(got))
	case p.Trailer.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(content)):
		return fmt.Errorf("trailer %v", p.Trailer)
	case !known && p.Trailer.Get("X-Theirs") != "theirs":
		return fmt.Errorf("our trailer came back as %v", p.Trailer)
	}
	return nil
}

// TestProtoTrailers: passed on both ways, but never names that mean something
// at the front.
func TestProtoTrailers(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\n"+
		"X-Sum: 1\r\nContent-Length: 5\r\nHost: evil\r\nX-Forwarded-For: 6.6.6.6\r\nAuthorization: x\r\ngrpc-status: 0\r\n\r\n"))
	trailer := []protopeer.Field{{Name: "x-sum", Value: "1"}, {Name: "x-forwarded-for", Value: "6.6.6.6"}, {Name: "x_forwarded_for", Value: "6.6.6.6"},
		{Name: "authorization", Value: "x"}, {Name: "host", Value: "evil"}, {Name: "content-length", Value: "2"}, {Name: "grpc-status", Value: "0"}}
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		s := e.open(e.raw("aaaa.test"), protopeer.Request{Method: "POST", Authority: "aaaa.test"}, false)
		e.send(s, "hi")
		s.End(trailer...)
		a, err := protopeer.Finish(s)
		if err != nil || string(a.Body) != "ok" {
			t.Fatalf("%v %+v", err, a)
		}
		var theirs strict.Header
		for _, f := range a.Trailer {
			theirs = append(theirs, strict.Field(f))
		}
		for who, h := range map[string]strict.Header{"client": theirs, "VM": newest(vm).Trailer} {
			if h.Get("X-Sum") != "1" || h.Get("grpc-status") != "0" {
				t.Errorf("the %s got %v", who, h)
			}
			for _, name := range []string{"Content-Length", "Host", "X-Forwarded-For", "X_Forwarded_For", "Authorization"} {
				if h.Has(name) {
					t.Errorf("the %s got %s in a trailer", who, name)
				}
			}
		}
	})
}

// TestProtoInterim: 1xx are passed on as they come, whatever the VM speaks.
func TestProtoInterim(t *testing.T) {
	t.Parallel()
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(103)
		w.Header().Set("Link", "</b.css>")
		w.WriteHeader(103)
		io.WriteString(w, "ok")
	})
	each(t, u, func(t *testing.T, e edge) {
		c := e.client(hosts...)
		for _, host := range hosts {
			var links []string
			trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				links = append(links, fmt.Sprint(code, h.Get("Link")))
				return nil
			}}
			q, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", "https://"+host+"/", nil)
			p, err := c.Do(q)
			if err != nil {
				t.Fatal(err)
			}
			p.Body.Close()
			if got := strings.Join(links, " "); p.StatusCode != 200 || got != "103</a.css>; rel=preload 103</b.css>" {
				t.Errorf("%s: %d after %s", host, p.StatusCode, got)
			}
		}
	})
}

// TestProtoExpect: 100 (Continue) comes when the VM says so, or not at all.
func TestProtoExpect(t *testing.T) {
	t.Parallel()
	allow := make(chan bool)
	vm := peer.Listen(t, func(l *peer.Link) {
		q, err := l.RequestHead()
		if err != nil {
			return
		}
		if !<-allow {
			l.Say("HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n")
			io.Copy(io.Discard, l.R)
			return
		}
		l.Say("HTTP/1.1 100 Continue\r\n\r\n")
		if q.ReadBody(l.R) == nil {
			l.Say(peer.Text(string(q.Body)))
		}
	})
	r := protopeer.Request{Method: "POST", Authority: "aaaa.test", Fields: protopeer.Fields{
		{Name: "expect", Value: "100-continue"}, {Name: "content-length", Value: "5"}}}
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		for _, allowed := range []bool{true, false} {
			n := len(vm.Requests())
			s := e.open(e.raw("aaaa.test"), r, false)
			vm.Wait(n + 1)
			heads := make(chan protopeer.Head, 1)
			go func() {
				h, _ := s.Head()
				heads <- h
			}()
			select {
			case h := <-heads:
				t.Fatalf("%d before the VM said anything", h.Status)
			case <-time.After(200 * time.Millisecond):
			}
			allow <- allowed
			h := soon(t, heads)
			if !allowed {
				if h.Status != 413 {
					t.Errorf("%d instead of 413", h.Status)
				}
				continue
			}
			if h.Status != 100 {
				t.Fatalf("%d instead of 100", h.Status)
			}
			e.send(s, "hello")
			s.End()
			if a, err := protopeer.Finish(s); err != nil || string(a.Body) != "hello" {
				t.Errorf("%v, %d %q", err, a.Status, a.Body)
			}
		}
	})
}

// TestProtoEarlyAnswer: a VM that answers before the upload ends is heard at
// once and to the end, and the connection goes on.
func TestProtoEarlyAnswer(t *testing.T) {
	t.Parallel()
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == "GET" {
			io.WriteString(w, "ok")
			return
		}
		w.WriteHeader(413)
		io.WriteString(w, strings.Repeat("large", 20_000))
	})
	each(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			c := e.raw(host)
			s := e.open(c, protopeer.Request{Method: "POST", Authority: host, Fields: protopeer.Fields{{Name: "content-length", Value: "100000000"}}}, false)
			e.send(s, "begin")
			a, err := protopeer.Finish(s)
			if err != nil || a.Status != 413 || len(a.Body) != 100_000 {
				t.Errorf("%s: %d with %d bytes, %v", host, a.Status, len(a.Body), err)
			}
			if e.Proto != protopeer.H1 {
				if a := e.ask(c, protopeer.Request{Authority: host}, ""); string(a.Body) != "ok" {
					t.Errorf("%s: then %d %q", host, a.Status, a.Body)
				}
			}
		}
	})
}

// TestProtoShapes: messages of all shapes.
func TestProtoShapes(t *testing.T) {
	t.Parallel()
	vm := peer.Listen(t, peer.Each(func(l *peer.Link, q *strict.Request) bool {
		switch q.Target {
		case "/204":
			return l.Say("HTTP/1.1 204 No Content\r\n\r\n")
		case "/304":
			return l.Say("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\nETag: \"x\"\r\n\r\n")
		case "/close":
			l.Say("HTTP/1.1 200 OK\r\n\r\nuntil the end")
			return false
		case "/1.0":
			l.Say("HTTP/1.0 200 OK\r\n\r\nold")
			return false
		case "/empty":
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
		if q.Method == "HEAD" {
			return l.Say("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
		}
		return l.Say(peer.Text(q.Method + " " + q.Target + " " + string(q.Body)))
	}))
	each(t, terminated(t, vm), func(t *testing.T, e edge) {
		c := e.raw("aaaa.test")
		for _, s := range []struct {
			method, path, body string
			status             int
			length, want       string
		}{
			{"GET", "/", "", 200, "6", "GET / "}, {"HEAD", "/", "", 200, "1234", ""}, {"GET", "/204", "", 204, "", ""}, {"GET", "/304", "", 304, "99", ""},
			{"GET", "/empty", "", 200, "0", ""}, {"POST", "/x", "body", 200, "12", "POST /x body"}, {"GET", "/x", "body", 200, "11", "GET /x body"},
			{"DELETE", "/x", "", 200, "10", "DELETE /x "}, {"OPTIONS", "*", "", 200, "10", "OPTIONS * "}, {"BREW", "/pot", "", 200, "10", "BREW /pot "},
			{"GET", "/close", "", 200, "", "until the end"}, {"GET", "/1.0", "", 200, "", "old"}, {"GET", "/last", "", 200, "10", "GET /last "},
		} {
			a := e.ask(c, protopeer.Request{Method: s.method, Authority: "aaaa.test", Path: s.path}, s.body)
			length := a.Fields.Get("Content-Length")
			if a.Status != s.status || string(a.Body) != s.want || s.length != "" && length != s.length && s.status != 304 {
				t.Errorf("%s %s: %d, length %q, %q", s.method, s.path, a.Status, length, a.Body)
			}
		}
	})
	if f := vm.Faults(); len(f) > 0 {
		t.Errorf("the VM saw %v", f)
	}
}

// TestProtoBothWays: request and response bodies flow together, piece by
// piece.
func TestProtoBothWays(t *testing.T) {
	t.Parallel()
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		rc.EnableFullDuplex()
		w.WriteHeader(200)
		rc.Flush()
		b := make([]byte, 100)
		for {
			n, err := r.Body.Read(b)
			w.Write(b[:n])
			rc.Flush()
			if err != nil {
				return
			}
		}
	})
	each(t, u, func(t *testing.T, e edge) {
		for _, host := range hosts {
			s := e.open(e.raw(host), protopeer.Request{Method: "POST", Authority: host}, false)
			if h := e.head(s); h.Status != 200 {
				t.Fatalf("%s: %d", host, h.Status)
			}
			for range 10 {
				e.send(s, "ping")
				e.want(s, "ping")
			}
			s.End()
			if rest, err := io.ReadAll(s); err != nil || len(rest) > 0 {
				t.Errorf("%s: %q, %v", host, rest, err)
			}
		}
	})
}

// TestProtoEvents: each piece of an event stream arrives before the next one
// is made.
func TestProtoEvents(t *testing.T) {
	t.Parallel()
	next := make(chan bool)
	u, hosts := everyVM(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for i := range 5 {
			<-next
			fmt.Fprintf(w, "data: %d\n\n", i)
			http.NewResponseController(w).Flush()
		}
	})
	each(t, u, func(t *testing.T, e edge) {
		c := e.client(hosts...)
		for _, host := range hosts {
			ctx, cancel := context.WithTimeout(t.Context(), peer.Patience)
			q, _ := http.NewRequestWithContext(ctx, "GET", "https://"+host+"/", nil)
			p, err := c.Do(q) // returns before any event
			if err != nil {
				t.Fatal(err)
			}
			for i := range 5 {
				next <- true
				e.want(p.Body, fmt.Sprintf("data: %d\n\n", i))
			}
			if rest, err := io.ReadAll(p.Body); err != nil || len(rest) > 0 {
				t.Errorf("%s: %q, %v", host, rest, err)
			}
			p.Body.Close()
			cancel()
		}
	})
}
