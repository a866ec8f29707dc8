package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// roundTrips is a connection that carries many requests at once.
type roundTrips struct {
	transport http.RoundTripper
	url       string
	proto     int
}

func (r *roundTrips) Do() error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
	if err != nil {
		return err
	}
	response, err := r.transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	n, err := io.Copy(io.Discard, response.Body)
	switch {
	case err != nil:
		return err
	case response.ProtoMajor != r.proto:
		return fmt.Errorf("answered in %s", response.Proto)
	case response.StatusCode != http.StatusOK || n != response.ContentLength:
		return fmt.Errorf("status %d with %d of %d bytes", response.StatusCode, n, response.ContentLength)
	}
	return nil
}

func (p Plan) url() string { return fmt.Sprintf("https://%s/b/%d", Name, p.Size) }

// newStream is the n-th client of a plan, on a connection of Streams clients.
func newStream(p Plan, s *shared, n int, dial func(Plan, *tls.Config) *roundTrips) client {
	if at := n / max(p.Streams, 1); at < len(s.streams) {
		return s.streams[at]
	}
	c := dial(p, s.tls.Clone())
	s.streams = append(s.streams, c)
	return c
}

func newHTTP2(p Plan, config *tls.Config) *roundTrips {
	config.NextProtos = []string{"h2"}
	return &roundTrips{&http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: true, DisableCompression: true, IdleConnTimeout: time.Minute,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", p.Addr.String())
		},
	}, p.url(), 2}
}

func newHTTP3(p Plan, config *tls.Config) *roundTrips {
	config.NextProtos = []string{http3.NextProtoH3}
	return &roundTrips{&http3.Transport{
		TLSClientConfig: config, DisableCompression: true,
		Dial: func(ctx context.Context, _ string, t *tls.Config, q *quic.Config) (*quic.Conn, error) {
			return quic.DialAddr(ctx, p.Addr.String(), t, q)
		},
	}, p.url(), 3}
}
