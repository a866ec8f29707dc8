package h3

import (
	"crypto/tls"
	"strings"

	"github.com/quic-go/quic-go"

	"usher/proxy/message"
)

const alpn = "h3"

// tlsConfig asks who serves each server name. Session tickets are sealed with
// the keys of this one configuration, whatever is returned for a name.
func tlsConfig(byName func(string) *tls.Config) *tls.Config {
	refuse := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}}
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{alpn},
		GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
			c := byName(serverName(h.ServerName))
			if c == nil {
				// Without a certificate the alert is unrecognized_name, at
				// once; an error from here is internal_error.
				return refuse, nil
			}
			c = c.Clone()
			c.MinVersion, c.NextProtos = tls.VersionTLS13, []string{alpn}
			return c, nil
		},
	}
}

// serverName is a name as a client sent it in lower case without the dot at
// its end.
func serverName(sni string) string {
	return strings.ToLower(strings.TrimSuffix(sni, "."))
}

// introduce is what is known of a client after its handshake, or, with early
// data, after its ClientHello.
func introduce(q *quic.Conn) *message.Client {
	state := q.ConnectionState().TLS
	c := &message.Client{
		Addr: addrOf(q.RemoteAddr()), Local: addrOf(q.LocalAddr()),
		Proto: message.HTTP3, TLS: true,
		ServerName: serverName(state.ServerName), ALPN: state.NegotiatedProtocol,
		TLSVersion: state.Version, CipherSuite: state.CipherSuite,
	}
	c.Peer = c.Addr.Addr()
	return c
}
