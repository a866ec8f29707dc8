package health

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"usher/proxy/proxyproto"
	"usher/proxy/socket"
)

// once makes one check over the network and returns why it failed.
func once(t *testing.T, check Check, address string) string {
	t.Helper()
	k := normal(check, address)
	ctx, cancel := context.WithTimeout(context.Background(), k.check.Timeout)
	defer cancel()
	took, err := newMaker(socket.Dial, &readers{}, k).make(ctx)
	if took > k.check.Timeout+time.Second {
		t.Errorf("took %v", took)
	}
	if err == nil {
		return ""
	}
	return reason(err, k.check.Timeout)
}

// server is an HTTP server for a test; its protocols are HTTP/1.1, HTTP/2
// over TLS, and HTTP/2 without.
func server(t *testing.T, secure bool, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetHTTP2(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.EnableHTTP2 = secure
	if secure {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func addressOf(s *httptest.Server) string { return s.Listener.Addr().String() }

func rootOf(s *httptest.Server) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

// listen serves each connection with f until the test ends.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// answering reads a request and writes an answer.
func answering(answer string) func(net.Conn) {
	return func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, answer)
	}
}

func closedPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestTCP(t *testing.T) {
	var seen atomic.Int32
	address := listen(t, func(net.Conn) { seen.Add(1) })
	for _, proxy := range []string{"", "v1"} {
		if why := once(t, Check{Proxy: proxy}, address); why != "" {
			t.Error(why)
		}
	}
	_, port, _ := net.SplitHostPort(address)
	var p uint16
	fmt.Sscan(port, &p)
	if why := once(t, Check{Port: p}, "127.0.0.1:1"); why != "" {
		t.Error("with a port of its own:", why)
	}
	if why := once(t, Check{}, closedPort(t)); why != "connect: connection refused" {
		t.Errorf("%q", why)
	}
	for address, want := range map[string]string{"unix:/nonexistent": "connect: no such file or directory", "name:80": "connect: probe tcp"} {
		if why := once(t, Check{}, address); !strings.HasPrefix(why, want) {
			t.Errorf("%q", why)
		}
	}
	c, err := net.Dial("tcp", address) // behind all probes in the queue
	if err != nil {
		t.Fatal(err)
	}
	io.ReadAll(c)
	c.Close()
	if n := seen.Load(); n != 1 {
		t.Errorf("the VM has seen %d connections", n-1)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })}
	go s.Serve(l)
	defer s.Close()
	for _, c := range []Check{{}, {Kind: HTTP, Body: "localhost"}} {
		if why := once(t, c, "unix:"+path); why != "" {
			t.Error(why)
		}
	}
}

func TestHTTP(t *testing.T) {
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			fmt.Fprintf(w, "%s %s %s %s %v", r.Method, r.Host, r.UserAgent(), r.URL.RawQuery, r.Proto)
		case "/moved":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/early":
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "late")
		case "/big":
			io.WriteString(w, strings.Repeat("x", maxBody-4)+"goodlate")
		case "/stream":
			io.WriteString(w, "begun")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case "/slow":
			<-r.Context().Done()
		case "/abort":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "12345")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	quick := 200 * time.Millisecond
	for _, version := range []bool{false, true} {
		proto := "HTTP/1.1"
		if version {
			proto = "HTTP/2.0"
		}
		for _, c := range []struct {
			Check
			why string
		}{
			{Check{Path: "/ok"}, ""},
			{Check{Path: "/ok?a=b", Host: "web.example:81", Body: "GET web.example:81 usher-health a=b " + proto}, ""},
			{Check{Path: "/ok", Method: "POST", Body: "POST"}, ""},
			{Check{Path: "/ok", Method: "HEAD"}, ""},
			{Check{Path: "/ok", Body: "bad\n"}, `status 200, but the body does not hold "bad\n"`},
			{Check{Path: "/moved"}, ""},
			{Check{Path: "/moved", Status: "200"}, "status 302, want 200"},
			{Check{Path: "/early", Body: "late"}, ""},
			{Check{Path: "/big", Body: "good"}, ""},
			{Check{Path: "/big", Body: "late"}, `status 200, but the body does not hold "late"`},
			{Check{Path: "/stream"}, ""},
			{Check{Path: "/stream", Body: "begun"}, ""},
			{Check{Path: "/stream", Body: "more", Timeout: quick}, "body: no answer within 200ms"},
			{Check{Path: "/slow", Timeout: quick}, "no answer within 200ms"},
			{Check{Path: "/none"}, "status 503, want 200-399"},
			{Check{}, "status 503, want 200-399"},
			{Check{Path: "/none", Status: "200-299,503"}, ""},
			{Check{Path: "/ok", Status: "2xx"}, `"2xx" is no list of statuses`},
			{Check{Path: "/ok", Method: "G T"}, `the request cannot be sent: net/http: invalid method "G T"`},
			{Check{Path: "/ok\r\nx: y"}, `the request cannot be sent: parse "http://vm/ok\r\nx: y": net/url: invalid control character in URL`},
		} {
			c.Kind, c.HTTP2 = HTTP, version
			if why := once(t, c.Check, addressOf(s)); why != c.why {
				t.Errorf("%s %+v: %q, want %q", proto, c.Check, why, c.why)
			}
		}
		if why := once(t, Check{Kind: HTTP, Path: "/abort", Body: "x", HTTP2: version}, addressOf(s)); !strings.HasPrefix(why, "body: ") {
			t.Errorf("%s, broken off: %q", proto, why)
		}
	}
}

func TestFaultyHTTP(t *testing.T) {
	for answer, want := range map[string]string{
		"":                                  "closed without an answer",
		"HTTP/1.1 200":                      "closed without an answer",
		"SSH-2.0-x\r\n":                     `malformed HTTP response "SSH-2.0-x"`,
		"HTTP/1.1 200 OK\r\nx: y":           "closed without an answer",
		"HTTP/1.1 200 OK\r\n\x1b[31m\r\n\r": `malformed MIME header: missing colon: "\x1b[31m"`,
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n": "http: message cannot contain multiple Content-Length headers; got [\"1\" \"2\"]",
		strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20):                 "more than 10 informational answers",
		"HTTP/1.1 200 OK\r\nx: " + strings.Repeat("y", 2*maxHead):           "the head of the answer is longer than 64 KiB",
	} {
		if why := once(t, Check{Kind: HTTP}, listen(t, answering(answer))); why != want {
			t.Errorf("%.40q: %q, want %q", answer, why, want)
		}
	}
	if why := once(t, Check{Kind: HTTP, HTTP2: true, Timeout: time.Second}, listen(t, answering("HTTP/1.1 400 no\r\n\r\n"))); why == "" {
		t.Error("HTTP/1.1 passes for HTTP/2")
	}
	for _, kind := range []Kind{TLS, HTTP, GRPC} {
		if why := once(t, Check{Kind: kind}, closedPort(t)); why != "connect: connection refused" {
			t.Errorf("%v: %q", kind, why)
		}
	}
	silent := listen(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for _, c := range []Check{{Kind: TLS}, {Kind: HTTP}, {Kind: HTTP, HTTP2: true}, {Kind: GRPC}, {Kind: GRPC, Secure: true}} {
		c.Timeout = 150 * time.Millisecond
		if why := once(t, c, silent); strings.TrimPrefix(why, "TLS: ") != "no answer within 150ms" {
			t.Errorf("%+v: %q", c, why)
		}
	}
}

func TestHTTPS(t *testing.T) {
	s := server(t, true, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto, " ", r.TLS.ServerName) })
	only1 := httptest.NewUnstartedServer(s.Config.Handler)
	only1.Config.ErrorLog = log.New(io.Discard, "", 0)
	only1.StartTLS()
	defer only1.Close()
	root := rootOf(s)
	for _, c := range []struct {
		Check
		address, why string
	}{
		{Check{RootsPEM: root, ServerName: "example.com", Body: "HTTP/1.1 example.com"}, addressOf(s), ""},
		{Check{RootsPEM: root, ServerName: "example.com", Body: "HTTP/2.0 example.com", HTTP2: true}, addressOf(s), ""},
		{Check{RootsPEM: root, Host: "example.com:8443", Body: "example.com"}, addressOf(s), ""},
		{Check{RootsPEM: root}, addressOf(s), ""}, // by its address
		{Check{Insecure: true, ServerName: "other.example", Body: "other.example"}, addressOf(s), ""},
		{Check{ServerName: "example.com"}, addressOf(s), "TLS: failed to verify certificate: x509: certificate signed by unknown authority"},
		{Check{RootsPEM: root, ServerName: "other.example"}, addressOf(s), "TLS: failed to verify certificate: x509: certificate is valid for example.com, *.example.com, not other.example"},
		{Check{RootsPEM: "nothing"}, addressOf(s), "no certificate in the CA file"},
		{Check{Insecure: true, HTTP2: true}, addressOf(only1), "TLS: "},
		{Check{Insecure: true}, addressOf(server(t, false, s.Config.Handler.ServeHTTP)), "TLS: first record does not look like a TLS handshake"},
	} {
		c.Kind, c.Secure = HTTP, true
		if why := once(t, c.Check, c.address); why != c.why && (c.why != "TLS: " || !strings.HasPrefix(why, c.why)) {
			t.Errorf("%+v: %q, want %q", c.Check, why, c.why)
		}
	}
}

// certificate is self-signed.
func certificate(valid time.Duration) tls.Certificate {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "vm"}, NotAfter: time.Now().Add(valid)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		panic(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}
}

func TestTLSHandshake(t *testing.T) {
	var name atomic.Value
	config := &tls.Config{Certificates: []tls.Certificate{certificate(-time.Hour)}}
	config.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		name.Store(h.ServerName)
		if h.ServerName == "unknown" {
			return &tls.Config{}, nil
		}
		return nil, nil
	}
	serve := func(change func(*tls.Config)) string {
		config := config.Clone()
		change(config)
		return listen(t, func(c net.Conn) { io.Copy(io.Discard, tls.Server(c, config)) })
	}
	plain := serve(func(*tls.Config) {})
	if why := once(t, Check{Kind: TLS, Host: "vm.example"}, plain); why != "" || name.Load() != "vm.example" {
		t.Error(why, name.Load())
	}
	if why := once(t, Check{Kind: TLS}, plain); why != "" || name.Load() != "" {
		t.Error("without a name:", why, name.Load())
	}
	if why := once(t, Check{Kind: TLS, Host: "unknown"}, plain); why != "TLS: remote error: tls: unrecognized name" {
		t.Errorf("refused: %q", why)
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		address := serve(func(c *tls.Config) {
			c.MinVersion, c.MaxVersion, c.ClientAuth = version, version, tls.RequireAnyClientCert
		})
		if why := once(t, Check{Kind: TLS}, address); why != "" {
			t.Errorf("%s with client certificates: %q", tls.VersionName(version), why)
		}
	}
	if why := once(t, Check{Kind: TLS}, listen(t, func(net.Conn) {})); !strings.HasPrefix(why, "TLS: ") {
		t.Errorf("a VM that closes: %q", why)
	}
}

func TestTLSSessionsAreResumed(t *testing.T) {
	var resumed atomic.Int32
	config := &tls.Config{Certificates: []tls.Certificate{certificate(time.Hour)}, VerifyConnection: func(s tls.ConnectionState) error {
		if s.DidResume {
			resumed.Add(1)
		}
		return nil
	}}
	m := newMaker(socket.Dial, &readers{}, normal(Check{Kind: TLS}, listen(t, func(c net.Conn) { io.Copy(io.Discard, tls.Server(c, config)) })))
	for range 5 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if _, err := m.make(ctx); err != nil {
			t.Error(err)
		}
		cancel()
	}
	if n := resumed.Load(); n != 4 {
		t.Errorf("%d of 5 handshakes are resumptions", n)
	}
}

// TestTheVMClosesFirst: who does keeps the connection in TIME_WAIT for a
// minute.
func TestTheVMClosesFirst(t *testing.T) {
	secure := &tls.Config{Certificates: []tls.Certificate{certificate(-time.Hour)}}
	for name, c := range map[string]struct {
		Check
		serve func(net.Conn)
	}{
		"HTTP": {Check{Kind: HTTP}, answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")},
		"TLS":  {Check{Kind: TLS}, func(c net.Conn) { io.Copy(io.Discard, tls.Server(c, secure)) }},
		"HTTPS": {Check{Kind: HTTP, Secure: true, Insecure: true}, func(c net.Conn) {
			t := tls.Server(c, secure)
			answering("HTTP/1.1 200 OK\r\n\r\n")(t)
			t.CloseWrite()
			io.Copy(io.Discard, t)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			done := make(chan error, 1)
			address := listen(t, func(raw net.Conn) {
				c.serve(raw)
				raw.SetReadDeadline(time.Now().Add(farewell / 4))
				_, err := raw.Read(make([]byte, 1))
				done <- err
			})
			if why := once(t, c.Check, address); why != "" {
				t.Error(why)
			}
			if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the VM has read %v before it closed", err)
			}
		})
	}
}

func TestPROXYHeaderComesFirst(t *testing.T) {
	l, err := socket.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, c := range []Check{{Kind: HTTP}, {Kind: HTTP, HTTP2: true}, {Kind: TLS}, {Kind: GRPC}} {
		for _, version := range []string{"v1", "v2"} {
			c.Proxy, c.Timeout = version, 200*time.Millisecond
			result := make(chan string)
			go func() { result <- once(t, c, l.Addr().String()) }()
			s, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			head, err := proxyproto.Read(s)
			if err != nil || head.Source.IsValid() || head.Local != (version == "v2") {
				t.Errorf("%+v: %+v, %v", c, head, err)
			}
			first := make([]byte, 3)
			if _, err := io.ReadFull(s, first); err != nil {
				t.Error(err)
			}
			if want := map[Kind]string{HTTP: "GET", TLS: "\x16\x03\x01", GRPC: "PRI"}[c.Kind]; string(first) != want && !(c.HTTP2 && string(first) == "PRI") {
				t.Errorf("%+v: then %q", c, first)
			}
			s.Close()
			if why := <-result; why == "" {
				t.Error("no answer, and the check passes")
			}
		}
	}
}

func TestCheckerOverTheNetwork(t *testing.T) {
	var up atomic.Bool
	up.Store(true)
	s := server(t, false, func(w http.ResponseWriter, r *http.Request) {
		if !up.Load() {
			w.WriteHeader(500)
		}
	})
	c := New(Options{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- c.Run(ctx) }()
	told := make(chan State, 10)
	target := c.Watch(Check{Kind: HTTP, Interval: 50 * time.Millisecond}, addressOf(s), func(s State) { told <- s })
	next := func(want State) {
		t.Helper()
		select {
		case got := <-told:
			if got != want || target.State() != want {
				t.Errorf("told %v, state %v, want %v", got, target.State(), want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("never %v: %+v", want, target.Status())
		}
	}
	next(Healthy)
	up.Store(false)
	next(Unhealthy)
	if why := target.Status().Reason; why != "status 500, want 200-399" {
		t.Errorf("%q", why)
	}
	up.Store(true)
	next(Healthy)
	target.Close()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestADialThatFailsInItsOwnWay(t *testing.T) {
	c := New(Options{Dial: func(context.Context, string, string) (*socket.Socket, error) { return nil, errors.New("forbidden") }})
	s := c.newSubject(normal(Check{Kind: TLS}, vm))
	_, err := s.make(context.Background())
	if why := reason(err, time.Second); why != "connect: forbidden" {
		t.Errorf("%q", why)
	}
}
