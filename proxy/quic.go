package proxy

import (
	"crypto/tls"

	"usher/proxy/message"
	"usher/router"
)

// QUIC is what serves a server name over QUIC: nil, which refuses at once so
// that a browser goes back to TCP, for names that are not terminated here or
// have no certificate yet.
func (p *Proxy) QUIC(serverName string) *tls.Config {
	name, err := router.Canonical(make([]byte, 0, router.MaxHost), []byte(serverName))
	if err != nil || router.IsIP(name) {
		name = nil
	}
	site, ok := p.Snapshot().Sites.Lookup(name)
	if !ok || site.Passthrough || !p.Certificates.Has(string(name)) {
		return nil
	}
	return p.Certificates.ServerConfig()
}

// QUICClient fills in what the proxy knows of a client that came by QUIC.
func (p *Proxy) QUICClient(c *message.Client) {
	c.Peer = c.Addr.Addr()
	name, local := c.ServerName, c.Local.Addr()
	c.Covers = func(host string) bool { return p.Certificates.Covers(name, local, host) }
}

// Ended logs why a connection ended, unless in good order.
func (p *Proxy) Ended(c *message.Client, err error) {
	p.Log.Debug().Str("client", c.Addr.String()).Err(err).Msg("connection ended")
}
