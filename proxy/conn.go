package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/netip"
	"time"

	"usher/proxy/h1"
	"usher/proxy/h2"
	"usher/proxy/message"
	"usher/proxy/proxyproto"
	"usher/proxy/socket"
	"usher/router"
	"usher/telemetry"
	hello "usher/tls"
)

const (
	helloLimit  = 64 << 10
	lingerBytes = 64 << 10
	lingerTime  = time.Second
)

// ServePlain serves one accepted connection of a plain listener. It returns at
// its end, or when it is parked.
func (p *Proxy) ServePlain(ctx context.Context, s *socket.Socket) {
	p.Metrics.Accepted(telemetry.HTTP)
	if !p.announced(s) {
		p.exchanges(ctx, s, s, nil, nil)
	} else if client, ok := p.introduce(s, telemetry.HTTP); ok {
		p.exchanges(ctx, s, s, nil, client)
	} else {
		p.Metrics.Closed(telemetry.HTTP)
	}
}

// ServeTLS serves one accepted connection of a TLS listener. It returns at its
// end, or once a tunnel runs by itself or it is parked.
func (p *Proxy) ServeTLS(ctx context.Context, s *socket.Socket) {
	p.Metrics.Accepted(telemetry.HTTPS)
	if !p.serveTLS(ctx, s) {
		p.Metrics.Closed(telemetry.HTTPS)
	}
}

// serveTLS reports whether somebody else sees to the end of the connection.
func (p *Proxy) serveTLS(ctx context.Context, s *socket.Socket) (handed bool) {
	client, ok := p.introduce(s, telemetry.HTTPS)
	if !ok {
		return false
	}
	snap := p.Snapshot()
	s.SetReadDeadline(deadline(snap.Timeouts.ClientHello))
	h, err := hello.Peek(s, helloLimit)
	s.SetReadDeadline(time.Time{})
	if err != nil {
		p.refuseHello(s, client, err)
		return false
	}
	return p.route(ctx, s, client, &h)
}

// route decides by the server name. It reports whether somebody else sees to
// the end of the connection.
func (p *Proxy) route(ctx context.Context, s *socket.Socket, client *message.Client, h *hello.Hello) (handed bool) {
	name := serverName(h.ServerName)
	client.ServerName = string(name)
	snap := p.Snapshot()
	site, ok := snap.Sites.Lookup(name)
	switch {
	case h.IsACME() && snap.Challenges[client.ServerName] && !(ok && site.Passthrough):
		p.challenge(ctx, s, client, snap)
	case !ok:
		p.alert(s, client, hello.UnrecognizedName, telemetry.UnknownName, string(h.ServerName))
	case site.Fault != "" && (site.Passthrough || !p.Certificates.Has(client.ServerName)):
		p.alert(s, client, hello.InternalError, telemetry.Quarantined, site.Fault)
	case site.Passthrough:
		return p.passthrough(ctx, s, client, site, h)
	case h.IsACME() && site.OwnsChallenges:
		p.challenge(ctx, s, client, snap)
	default:
		return p.terminate(ctx, s, client, snap)
	}
	return false
}

// serverName is the router's key of an SNI; nil for none, and for what is no
// name.
func serverName(sni []byte) []byte { return serverNameIn(make([]byte, 0, router.MaxHost), sni) }

// serverNameIn is serverName in the caller's memory.
func serverNameIn(room, sni []byte) []byte {
	name, err := router.Canonical(room, sni)
	if err != nil || router.IsIP(name) || bytes.IndexByte(sni, ':') >= 0 {
		return nil
	}
	return name
}

// introduce finds out who the client is, reading the PROXY header of peers
// that must send one.
func (p *Proxy) introduce(s *socket.Socket, kind telemetry.Kind) (*message.Client, bool) {
	peer := s.Remote()
	client := &message.Client{Addr: peer, Local: s.Local(), Peer: peer.Addr()}
	if !p.announced(s) {
		return client, true
	}
	s.SetReadDeadline(deadline(p.Snapshot().Timeouts.ClientHello))
	header, err := proxyproto.Read(s)
	s.SetReadDeadline(time.Time{})
	if err != nil {
		p.refusedBy(kind, client, causeOf(err, telemetry.BadProxy), err.Error())
		s.Close()
		return nil, false
	}
	if header.Source.IsValid() {
		client.Addr, client.Local = unmap(header.Source), unmap(header.Destination)
	}
	return client, true
}

// announced reports whether the peer has to send a PROXY header.
func (p *Proxy) announced(s *socket.Socket) bool {
	from := p.Snapshot().ProxyProtocolFrom
	return len(from) > 0 && trusted(from, s.Remote().Addr())
}

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

func deadline(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.Now().Add(d)
}

// refuseHello answers what is not a usable ClientHello.
func (p *Proxy) refuseHello(s *socket.Socket, client *message.Client, err error) {
	switch {
	case errors.Is(err, hello.ErrNotTLS) && looksLikeHTTP(s):
		p.refused(client, telemetry.NotTLS, "plain HTTP on a TLS port")
		io.WriteString(s, plainOnTLS)
		s.CloseLinger(lingerBytes, lingerTime)
	case errors.Is(err, hello.ErrNotTLS):
		p.refused(client, telemetry.NotTLS, "neither TLS nor HTTP")
		s.Close()
	case errors.Is(err, hello.ErrHello):
		p.alert(s, client, hello.DecodeError, telemetry.BadHello, err.Error())
	default:
		if !errors.Is(err, io.EOF) {
			p.refused(client, causeOf(err, telemetry.BadHello), err.Error())
		}
		s.Close()
	}
}

const plainOnTLS = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 61\r\nConnection: close\r\n\r\n" +
	"This port speaks HTTPS, and the request was plain HTTP.     \n"

// looksLikeHTTP reports whether a connection begins with a method, a space and
// a slash or more.
func looksLikeHTTP(s *socket.Socket) bool {
	var b [16]byte
	s.SetReadDeadline(time.Now().Add(lingerTime))
	n, _ := io.ReadAtLeast(s, b[:], 6)
	method, _, found := bytes.Cut(b[:n], []byte{' '})
	return found && len(method) >= 3 && len(bytes.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")) == 0
}

// alert refuses a handshake before it began.
func (p *Proxy) alert(s *socket.Socket, client *message.Client, a hello.Alert, cause telemetry.Cause, detail string) {
	p.refused(client, cause, detail)
	hello.WriteAlert(s, a)
	s.CloseLinger(lingerBytes, lingerTime)
}

// challenge answers a TLS-ALPN-01 validation (RFC 8737): a handshake and
// nothing else.
func (p *Proxy) challenge(ctx context.Context, s *socket.Socket, client *message.Client, snap *Snapshot) {
	defer s.Close()
	if err := shake(ctx, tls.Server(s, p.Certificates.ChallengeConfig()), snap.Timeouts.Handshake); err != nil {
		p.refused(client, causeOf(err, telemetry.Handshake), err.Error())
	}
}

// shake does a handshake within a limit; 0 is none.
func shake(ctx context.Context, t *tls.Conn, limit time.Duration) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return t.HandshakeContext(ctx)
}

// terminate does the handshake and serves exchanges, if there can be any.
func (p *Proxy) terminate(ctx context.Context, s *socket.Socket, client *message.Client, snap *Snapshot) bool {
	records := socket.NewRecords(s)
	t := newGathering(records, p.Certificates.ServerConfig())
	if err := shake(ctx, t.Conn, snap.Timeouts.Handshake); err != nil {
		cause := telemetry.Handshake
		if !p.Certificates.Has(client.ServerName) {
			cause = telemetry.NoCertificate
		}
		p.refused(client, cause, err.Error())
		s.CloseLinger(lingerBytes, lingerTime)
		return false
	}
	state := t.ConnectionState()
	client.TLS = true
	client.ALPN, client.TLSVersion, client.CipherSuite = state.NegotiatedProtocol, state.Version, state.CipherSuite
	name, local := client.ServerName, s.Local().Addr()
	client.Covers = func(host string) bool { return p.Certificates.Covers(name, local, host) }
	p.exchanges(ctx, t, s, records, client)
	return true
}

func (p *Proxy) codec(rw io.ReadWriter, s *socket.Socket, client *message.Client) codec {
	snap := p.Snapshot()
	switch {
	case client == nil:
	case client.ALPN == "h2":
		client.Proto = message.HTTP2
		return h2.NewConn(snap.H2, rw, s, client, p)
	default:
		client.Proto = message.HTTP1
	}
	return h1.NewConn(snap.H1, rw, s, client, p)
}
