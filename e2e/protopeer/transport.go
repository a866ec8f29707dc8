//lint:file-ignore SA1019 The peer is the HTTP/2 of x/net, whatever net/http prefers.

package protopeer

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/net/http2"
)

// Transport is the client of a well-known library: net/http, x/net's HTTP/2 or
// quic-go's HTTP/3. All its connections go to one address.
type Transport interface {
	http.RoundTripper
	CloseIdleConnections()
}

// NewTransport makes one. The configuration has roots; the server name follows
// from the request.
func NewTransport(p Proto, addr string, conf *tls.Config) (Transport, error) {
	conf = conf.Clone()
	if p == H3 {
		conf.NextProtos = []string{http3.NextProtoH3}
		return &http3.Transport{TLSClientConfig: conf, DisableCompression: true,
			Dial: func(ctx context.Context, _ string, conf *tls.Config, c *quic.Config) (*quic.Conn, error) {
				return quic.DialAddr(ctx, addr, conf, c)
			}}, nil
	}
	t := &http.Transport{TLSClientConfig: conf, DisableCompression: true, MaxIdleConnsPerHost: 100, ExpectContinueTimeout: Patience}
	t.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	if p == H2 {
		if _, err := http2.ConfigureTransports(t); err != nil {
			return nil, fmt.Errorf("preparing HTTP/2: %w", err)
		}
	}
	return t, nil
}
