package telemetry

import (
	"bytes"
	"net/netip"
	"time"

	"github.com/rs/zerolog"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// line is one access-log line while it is put together. It is pooled for its
// scratch memory.
type line struct {
	event   *zerolog.Event
	scratch []byte
}

func (l *Log) begin(kind string, at time.Time, client netip.Addr, port uint16) *line {
	n, _ := l.lines.Get().(*line)
	if n == nil {
		n = &line{scratch: make([]byte, 0, maxPath+utf8Slack)}
	}
	n.event = l.out.Log()
	n.event.Bytes("time", at.UTC().AppendFormat(n.scratch[:0], timeLayout))
	n.event.Str("type", kind)
	if client.IsValid() {
		n.bytes("client", client.Unmap().AppendTo(n.scratch[:0]))
	}
	n.number("port", int64(port))
	return n
}

// utf8Slack is what clean may append beyond its limit before it cuts.
const utf8Slack = 16

func (l *Log) end(n *line) {
	n.event.Send()
	n.event = nil
	l.lines.Put(n)
}

// text adds a field unless it is empty.
func (n *line) text(key, s string) {
	switch {
	case s == "":
	case plain(s, maxField):
		n.event.Str(key, s)
	default:
		n.event.Bytes(key, clean(n.scratch[:0], s, maxField))
	}
}

// bytes is text for a view.
func (n *line) bytes(key string, s []byte) { n.long(key, s, maxField) }

func (n *line) long(key string, s []byte, limit int) {
	switch {
	case len(s) == 0:
	case plain(s, limit):
		n.event.Bytes(key, s)
	default:
		n.event.Bytes(key, clean(n.scratch[:0], s, limit))
	}
}

// number adds a field unless it is zero.
func (n *line) number(key string, v int64) {
	if v != 0 {
		n.event.Int64(key, v)
	}
}

// millis adds a duration in milliseconds, to the microsecond.
func (n *line) millis(key string, d time.Duration) {
	n.event.Float64(key, float64(d.Microseconds())/1000)
}

// Exchange writes the line of one exchange. Like all writing methods it never
// blocks, is safe for concurrent use, and allocates nothing.
func (l *Log) Exchange(x *Exchange) {
	if !l.Enabled() {
		return
	}
	path, query, _ := bytes.Cut(x.Path, []byte{'?'})
	if len(x.Query) > 0 {
		query = x.Query
	}
	n := l.begin("exchange", x.Time, x.Client, x.Port)
	n.bytes("request_id", x.RequestID)
	n.text("site", x.Site)
	n.bytes("method", x.Method)
	n.text("scheme", x.Scheme)
	n.bytes("host", x.Host)
	n.long("path", path, maxPath)
	if l.query.Load() {
		n.long("query", query, maxPath)
	}
	n.text("proto", x.Proto)
	n.event.Int("status", x.Status)
	n.event.Int64("bytes_in", x.BytesIn)
	n.event.Int64("bytes_out", x.BytesOut)
	n.millis("duration_ms", x.Duration)
	if x.FirstByte != 0 {
		n.millis("ttfb_ms", x.FirstByte)
	}
	n.text("backend", x.Backend)
	n.number("attempts", int64(x.Attempts))
	l.tls(n, x.TLSVersion, x.TLSCipher)
	n.text("sni", x.SNI)
	n.text("failed", x.Failed)
	n.text("reason", x.Reason)
	l.end(n)
}

func (l *Log) tls(n *line, version, cipher uint16) {
	if version == 0 {
		return
	}
	n.text("tls_version", versionName(version))
	n.text("tls_cipher", l.ciphers[cipher])
}

// Tunnel writes the line of one tunnel.
func (l *Log) Tunnel(t *Tunnel) {
	if !l.Enabled() {
		return
	}
	n := l.begin("tunnel", t.Time, t.Client, t.Port)
	n.bytes("request_id", t.RequestID)
	n.text("site", t.Site)
	n.text("sni", t.SNI)
	n.text("alpn", t.ALPN)
	n.text("backend", t.Backend)
	n.number("attempts", int64(t.Attempts))
	n.event.Int64("bytes_in", t.BytesIn)
	n.event.Int64("bytes_out", t.BytesOut)
	n.number("datagrams_in", t.Datagrams.In)
	n.number("datagrams_out", t.Datagrams.Out)
	n.number("datagrams_dropped", t.Datagrams.Dropped)
	n.millis("duration_ms", t.Duration)
	n.text("closed_by", t.ClosedBy)
	n.text("reason", t.Reason)
	l.end(n)
}

// Refusal writes the line of a refused connection or malformed request, at
// most ten a second of each cause; the next line of the cause says how many
// were left out.
func (l *Log) Refusal(r *Refusal) {
	if !l.Enabled() {
		return
	}
	ok, skipped := l.samples[r.Cause].allow(r.Time)
	if !ok {
		return
	}
	n := l.begin("refusal", r.Time, r.Client, r.Port)
	n.text("listener", r.Listener.String())
	n.text("cause", r.Cause.String())
	n.bytes("request_id", r.RequestID)
	n.text("sni", r.SNI)
	n.bytes("method", r.Method)
	n.bytes("host", r.Host)
	path, _, _ := bytes.Cut(r.Path, []byte{'?'})
	n.long("path", path, maxPath)
	n.number("status", int64(r.Status))
	n.text("reason", r.Reason)
	n.number("skipped", skipped)
	l.end(n)
}
