package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"usher/proxy/message"
	"usher/proxy/tunnel"
	"usher/telemetry"
)

// logExchange writes the access-log line of an exchange.
func (p *Proxy) logExchange(snap *Snapshot, ex *message.Exchange) {
	if !p.Access.Enabled() {
		return
	}
	t, c := &ex.Trace, ex.Client
	line := &telemetry.Exchange{
		Time: t.Start, Client: ex.From, RequestID: t.RequestID, Site: t.Site,
		Method: t.Method, Scheme: string(scheme(ex)), Host: t.Host, Path: t.Path, Proto: c.Proto.String(),
		Status: t.Status, BytesIn: t.Received, BytesOut: t.Sent, Duration: t.Total, FirstByte: t.Head,
		Backend: t.Backend, Attempts: t.Attempts,
		TLSVersion: c.TLSVersion, TLSCipher: c.CipherSuite, SNI: c.ServerName,
		Failed: t.Side.String(), Reason: t.Reason,
	}
	if ex.From == c.Addr.Addr() {
		line.Port = c.Addr.Port()
	}
	p.Access.Exchange(line)
}

// count adds an exchange to the counters of its site; site may be nil.
func (p *Proxy) count(site *Site, ex *message.Exchange) {
	if site == nil {
		return
	}
	t := &ex.Trace
	site.Counters.Count(t.Status, t.Total, t.Received, t.Sent)
	for range t.Attempts - 1 {
		site.Counters.Retried()
	}
}

// faultOf is the kind of a backend's failure for the counters.
func faultOf(err error) telemetry.Fault {
	var timeout interface{ Timeout() bool }
	var verify *tls.CertificateVerificationError
	var op *message.Error
	switch {
	case errors.As(err, &verify):
		return telemetry.FaultTLS
	case errors.As(err, &timeout) && timeout.Timeout(), errors.As(err, &op) && op.Status == 504:
		return telemetry.FaultTimeout
	case errors.As(err, &op) && op.Replay:
		return telemetry.FaultConnect
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return telemetry.FaultReset
	}
	return telemetry.FaultBadResponse
}

// finishTunnel counts and logs a passthrough connection.
func (p *Proxy) finishTunnel(site *Site, client *message.Client, backend string, r tunnel.Result, start time.Time) {
	site.Counters.Tunnel(r.Up, r.Down)
	p.Metrics.TunnelClosed(telemetry.Passthrough)
	p.Metrics.Closed(telemetry.HTTPS)
	p.Access.Tunnel(&telemetry.Tunnel{
		Time: start, Client: client.Addr.Addr(), Port: client.Addr.Port(), Site: site.Host, SNI: client.ServerName,
		ALPN: client.ALPN, Backend: backend, BytesIn: r.Up, BytesOut: r.Down, Duration: time.Since(start),
		ClosedBy: r.Side.String(), Reason: r.Reason,
	})
}

// refused counts and logs a connection that a TLS listener turned away.
func (p *Proxy) refused(client *message.Client, cause telemetry.Cause, reason string) {
	p.refusedBy(telemetry.HTTPS, client, cause, reason)
}

func (p *Proxy) refusedBy(kind telemetry.Kind, client *message.Client, cause telemetry.Cause, reason string) {
	p.Metrics.Refused(cause)
	p.Access.Refusal(&telemetry.Refusal{
		Time: time.Now(), Client: client.Addr.Addr(), Port: client.Addr.Port(), Listener: kind,
		Cause: cause, SNI: client.ServerName, Reason: reason,
	})
}

// causeOf tells slowness from other faults.
func causeOf(err error, otherwise telemetry.Cause) telemetry.Cause {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return otherwise
	}
	if otherwise == telemetry.Handshake {
		return otherwise
	}
	return telemetry.SlowHello
}
