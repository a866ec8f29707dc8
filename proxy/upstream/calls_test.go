package upstream

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"usher/proxy/message"
)

// goVM is Go's own server.
func goVM(t *testing.T, secure, http2 bool, h http.HandlerFunc) (Address, []byte) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(!http2)
	s.Config.Protocols.SetUnencryptedHTTP2(http2)
	var roots []byte
	if secure {
		s.StartTLS()
		roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	a := netip.MustParseAddrPort(s.Listener.Addr().String())
	return Address{Host: a.Addr().String(), Port: a.Port()}, roots
}

// h2VM is Go's own server with HTTP/2; conns counts its connections.
func h2VM(t *testing.T, secure bool, conns *atomic.Int32) (Address, []byte) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		io.WriteString(w, r.Proto+" "+r.Method+" "+string(b))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP2(secure)
	s.Config.Protocols.SetUnencryptedHTTP2(!secure)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	if secure {
		s.EnableHTTP2 = true
		s.TLS = &tls.Config{NextProtos: []string{"h2"}}
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	a := netip.MustParseAddrPort(s.Listener.Addr().String())
	var roots []byte
	if secure {
		roots = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	}
	return Address{Host: a.Addr().String(), Port: a.Port()}, roots
}

func TestHTTP2(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "h2c", true: "https"}[secure], func(t *testing.T) {
			var conns atomic.Int32
			a, roots := h2VM(t, secure, &conns)
			s := spec(a)
			s.HTTP2 = true
			if secure {
				s.TLS = &TLS{ServerName: "example.com", RootsPEM: roots}
			}
			p := pool(t, s, Dialer{})
			var group sync.WaitGroup
			for range 50 {
				group.Go(func() {
					wantAnswer(t, p, exchange("POST", "data"), "HTTP/2.0 POST data")
					wantAnswer(t, p, exchange("GET", ""), "HTTP/2.0 GET ")
				})
			}
			group.Wait()
			if n := conns.Load(); n != 1 {
				t.Errorf("%d connections for 100 exchanges", n)
			}
		})
	}
}

func TestHTTP2IsNotForcedOnAVM(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(s.Close)
	a := netip.MustParseAddrPort(s.Listener.Addr().String())
	sp := spec(Address{Host: a.Addr().String(), Port: a.Port()})
	sp.HTTP2, sp.Hold = true, 0
	sp.TLS = &TLS{ServerName: "example.com", Insecure: true}
	_, err := pool(t, sp, Dialer{}).RoundTrip(context.Background(), exchange("GET", ""), 0)
	var e *message.Error
	if !errors.As(err, &e) || e.Status != 502 {
		t.Errorf("got %v", err)
	}
}

// TestHTTP2ConnectionsEndWithThePool: a retired pool leaves no connection.
func TestHTTP2ConnectionsEndWithThePool(t *testing.T) {
	var conns atomic.Int32
	a, _ := h2VM(t, false, &conns)
	s := spec(a)
	s.HTTP2 = true
	p := pool(t, s, Dialer{})
	wantAnswer(t, p, exchange("GET", ""), "HTTP/2.0 GET ")
	p.Retire()
	waitFor(t, func() bool { return len(p.Backends()[0].shared.conns) == 0 })
}

// TestHTTP2CallsKeepTheVMsLimit: the first calls on a connection know how many
// the VM takes, also those whose body cannot be sent twice.
func TestHTTP2CallsKeepTheVMsLimit(t *testing.T) {
	arrived, release := make(chan bool, 100), make(chan bool)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 5}
	s.Start()
	t.Cleanup(s.Close)
	a := netip.MustParseAddrPort(s.Listener.Addr().String())
	sp := spec(Address{Host: a.Addr().String(), Port: a.Port()})
	sp.HTTP2 = true
	p := pool(t, sp, Dialer{})
	failed := make(chan error, 50)
	for range 50 {
		go func() {
			_, err := answer(t, p, exchange("POST", "data"))
			failed <- err
		}()
	}
	for range 50 {
		select {
		case <-arrived:
		case err := <-failed:
			t.Fatalf("a call ended: %v", err)
		}
	}
	close(release)
	for range 50 {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}
