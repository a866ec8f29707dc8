package telemetry

import (
	"bytes"
	"net/netip"
	"strconv"
	"time"
	"unsafe"
)

const timeLayout = "2006-01-02T15:04:05.000Z"

// line is one access-log line while it is put together. It is pooled for its
// memory.
type line struct {
	b       []byte
	scratch []byte
	second  int64  // Unix time that stamp stands for
	stamp   []byte // its text up to the fraction; empty at first
}

// lineRoom is enough for most lines.
const lineRoom = 2 << 10

func (l *Log) begin(kind string, at time.Time, client netip.Addr, port uint16) *line {
	n, _ := l.lines.Get().(*line)
	if n == nil {
		n = &line{b: make([]byte, 0, lineRoom), scratch: make([]byte, 0, maxPath+utf8Slack)}
	}
	n.b = append(n.b[:0], `{"time":"`...)
	n.time(at)
	n.b = append(append(append(n.b, `","type":"`...), kind...), '"')
	if client.IsValid() {
		n.bytes("client", client.Unmap().AppendTo(n.scratch[:0]))
	}
	n.number("port", int64(port))
	return n
}

// utf8Slack is what clean may append beyond its limit before it cuts.
const utf8Slack = 16

func (l *Log) end(n *line) {
	n.b = append(n.b, "}\n"...)
	l.queue.put(n.b)
	l.lines.Put(n)
}

// time writes timeLayout; the part before the fraction changes once a second.
func (n *line) time(at time.Time) {
	if second := at.Unix(); second != n.second || len(n.stamp) == 0 {
		n.second = second
		n.stamp = at.UTC().AppendFormat(n.stamp[:0], "2006-01-02T15:04:05.")
	}
	n.b = append(n.b, n.stamp...)
	n.b = append(appendThousandths(n.b, at.Nanosecond()/1e6), 'Z')
}

func appendThousandths(b []byte, v int) []byte {
	return append(b, byte('0'+v/100), byte('0'+v/10%10), byte('0'+v%10))
}

// appendKey begins a field. A key needs no escaping.
func appendKey(b []byte, key string) []byte {
	b = append(b, ',', '"')
	b = append(b, key...)
	return append(b, '"', ':')
}

// text adds a field unless it is empty.
func (n *line) text(key, s string) { n.bytes(key, unsafe.Slice(unsafe.StringData(s), len(s))) }

// bytes is text for a view.
func (n *line) bytes(key string, s []byte) { n.long(key, s, maxField) }

func (n *line) long(key string, s []byte, limit int) {
	if len(s) == 0 {
		return
	}
	b := append(appendKey(n.b, key), '"')
	switch asIs, plain := judge(s); {
	case asIs && len(s) <= limit:
		b = append(b, s...)
	case plain && len(s) <= limit:
		b = quote(b, s)
	default:
		b = quote(b, clean(n.scratch[:0], s, limit))
	}
	n.b = append(b, '"')
}

// number adds a field unless it is zero.
func (n *line) number(key string, v int64) {
	if v != 0 {
		n.count(key, v)
	}
}

// count adds a field.
func (n *line) count(key string, v int64) {
	n.b = strconv.AppendInt(appendKey(n.b, key), v, 10)
}

// millis adds a duration in milliseconds, to the microsecond.
func (n *line) millis(key string, d time.Duration) {
	b := appendKey(n.b, key)
	micros := d.Microseconds()
	if micros < 0 {
		b, micros = append(b, '-'), -micros
	}
	b = strconv.AppendInt(b, micros/1000, 10)
	if micros %= 1000; micros != 0 {
		b = appendThousandths(append(b, '.'), int(micros))
		for b[len(b)-1] == '0' {
			b = b[:len(b)-1]
		}
	}
	n.b = b
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
	n.count("status", int64(x.Status))
	n.count("bytes_in", x.BytesIn)
	n.count("bytes_out", x.BytesOut)
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
	n.count("bytes_in", t.BytesIn)
	n.count("bytes_out", t.BytesOut)
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
