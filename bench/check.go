package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"

	"usher/bench/backend"
	"usher/bench/load"
	"usher/bench/peer"
)

// address is where the clients of a row go.
func (r row) address(i *peer.Instance) netip.AddrPort {
	switch r.plan.Kind {
	case "h1", "post", "upload":
		return i.Task.Plain
	case "once", "ask":
		return i.Task.Pass
	}
	return i.Task.TLS
}

// check makes sure that a proxy does what the row is about: the right body in
// the right protocol, and connections that are really closed where that is the
// case.
func (l *lab) check(ctx context.Context, r row, i *peer.Instance) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	at := r.address(i).String()
	switch r.plan.Kind {
	case "once", "ask":
		return l.checkTunnel(r.plan.Kind, at)
	case "tls-full", "tls-resumed":
		return checkHandshakes(r.plan.Kind == "tls-resumed", at)
	}
	url, protocol, config := fmt.Sprintf("http://%s/b/%d", load.Name, r.plan.Size), 1, load.ClientTLS(false)
	var transport http.RoundTripper = &http.Transport{
		TLSClientConfig: config, DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", at)
		},
	}
	switch r.plan.Kind {
	case "tls", "tls-bulk":
		url = "https" + url[4:]
	case "h2":
		url, protocol = "https"+url[4:], 2
		config.NextProtos = []string{"h2"}
		transport.(*http.Transport).ForceAttemptHTTP2 = true
	case "h3":
		url, protocol = "https"+url[4:], 3
		config.NextProtos = []string{http3.NextProtoH3}
		h3 := &http3.Transport{TLSClientConfig: config, Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, at, t, q)
		}}
		defer h3.Close()
		transport = h3
	}
	if t, ok := transport.(*http.Transport); ok {
		defer t.CloseIdleConnections()
	}
	method, want, body := http.MethodGet, r.plan.Size, int64(0)
	if r.plan.Kind == "post" || r.plan.Kind == "upload" {
		method, want, body = http.MethodPost, 128, r.plan.Size
	}
	return checkExchange(ctx, transport, method, url, body, want, protocol)
}

func checkExchange(ctx context.Context, transport http.RoundTripper, method, url string, body, want int64, protocol int) error {
	request, err := http.NewRequestWithContext(ctx, method, url, io.LimitReader(zeros{}, body))
	if err != nil {
		return err
	}
	if request.ContentLength = body; body == 0 {
		request.Body = nil
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(onlyZeros{}, response.Body)
	switch {
	case err != nil:
		return fmt.Errorf("body: %w", err)
	case response.StatusCode != http.StatusOK:
		return fmt.Errorf("status %d", response.StatusCode)
	case response.ProtoMajor != protocol:
		return fmt.Errorf("answered in %s", response.Proto)
	case n != want:
		return fmt.Errorf("a body of %d bytes instead of %d", n, want)
	}
	return nil
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// onlyZeros refuses anything else.
type onlyZeros struct{}

func (onlyZeros) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != 0 {
			return 0, errors.New("the body is not the backend's")
		}
	}
	return len(p), nil
}

func (l *lab) checkTunnel(kind, at string) error {
	name := load.OnceName
	if kind == "ask" {
		name = load.AskName
	}
	hello, err := os.ReadFile(l.hellos[name])
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", at)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if kind == "once" {
		if _, err := conn.Write(hello); err != nil {
			return err
		}
		if all, err := io.ReadAll(conn); err != nil || string(all) != backend.Tiny {
			return fmt.Errorf("answered %.40q, %v", all, err)
		}
		return nil
	}
	if _, err := conn.Write(append(hello, 0, 0, 0, 0, 0, 0x30, 0, 0)); err != nil {
		return err
	}
	if n, err := io.Copy(onlyZeros{}, io.LimitReader(conn, 0x300000)); err != nil || n != 0x300000 {
		return fmt.Errorf("%d bytes through the tunnel, %v", n, err)
	}
	return nil
}

// checkHandshakes wants two connections that are closed after their answer; the
// second is resumed, or not.
func checkHandshakes(resume bool, at string) error {
	config := load.ClientTLS(resume)
	for n := range 2 {
		conn, err := tls.Dial("tcp", at, config)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(conn, "GET /b/128 HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", load.Name); err != nil {
			return err
		}
		buffered := bufio.NewReader(conn)
		response, err := http.ReadResponse(buffered, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusOK || strings.Trim(string(body), "\x00") != "" || len(body) != 128 {
			return fmt.Errorf("status %d, %d bytes, %v", response.StatusCode, len(body), err)
		}
		if _, err := buffered.ReadByte(); err != io.EOF {
			return fmt.Errorf("not closed after the answer: %v", err)
		}
		state := conn.ConnectionState()
		if state.Version != tls.VersionTLS13 || state.DidResume != (resume && n == 1) {
			return fmt.Errorf("connection %d: TLS %x, resumed: %v", n+1, state.Version, state.DidResume)
		}
		if _, ok := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey); !ok {
			return errors.New("the certificate has another kind of key")
		}
	}
	return nil
}
