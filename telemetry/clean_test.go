package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"plain", "plain"},
		{"grün 日本", "grün 日本"},
		{"a\r\nb", `a\x0d\x0ab`},
		{"\x1b[31m\x7f", `\x1b[31m\x7f`},
		{"\u0085\u009b", `\u0085\u009b`},
		{"\xff\xc3", `\xff\xc3`},
		{"\u2028\u202e", `\u2028\u202e`},
		{"\U000e0001", `\U000e0001`},
		{"\ufffd", "\ufffd"},
		{strings.Repeat("é", 10), "ééééé…"},
	} {
		limit := 100
		if strings.HasSuffix(c.want, "…") {
			limit = 10
		}
		if got := string(clean(nil, []byte(c.in), limit)); got != c.want {
			t.Errorf("%q: got %q, want %q", c.in, got, c.want)
		}
	}
}

// checkLine fails unless out is one line of JSON without any control, neither
// as it stands nor in a decoded value.
func checkLine(t *testing.T, out []byte) {
	t.Helper()
	if bytes.Count(out, []byte("\n")) != 1 || !bytes.HasSuffix(out, []byte("\n")) || len(out) > chunkSize {
		t.Fatalf("not one line: %q", out)
	}
	out = out[:len(out)-1]
	var m map[string]any
	if err := json.Unmarshal(out, &m); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	checkText(t, string(out))
	for key, v := range m {
		if s, ok := v.(string); ok {
			checkText(t, s)
			if len(s) > maxPath+len(ellipsis) || key != "path" && key != "query" && len(s) > maxField+len(ellipsis) {
				t.Fatalf("%s has %d bytes", key, len(s))
			}
		}
	}
}

func checkText(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("invalid UTF-8: %q", s)
	}
	for _, r := range s {
		if unicode.IsControl(r) || r == 0x2028 || r == 0x2029 {
			t.Fatalf("control %U in %q", r, s)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("GET", "/path?x=1", "example.com", "reason", int64(1), uint16(0x304))
	f.Add("G\r\nT", "/\x00\x1b[2J\"}\n{\"status\":200}", "\xff\xfe", "\u0085\u2028", int64(-1), uint16(0))
	f.Add("\\", strings.Repeat("\xf0", 5000), strings.Repeat("\x01", 600), strings.Repeat("é", 300), int64(1<<62), uint16(0xffff))
	l, err := Open("stderr", Options{Query: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, a, b, c, d string, n int64, v uint16) {
		at := time.Unix(n%1e10, n)
		client := netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 15: byte(n)}).WithZone(a)
		l.Exchange(&Exchange{
			Time: at, Client: client, Port: v, RequestID: []byte(a), Site: b, Method: []byte(a), Scheme: d, Host: []byte(c),
			Path: []byte(b), Proto: c, Status: int(n), BytesIn: n, Duration: time.Duration(n), Backend: c, TLSVersion: v,
			TLSCipher: v, SNI: c, Failed: d, Reason: d,
		})
		checkLine(t, queued(t, l))
		l.Tunnel(&Tunnel{Time: at, Client: client, RequestID: []byte(a), Site: a, SNI: b, ALPN: c, Backend: d, ClosedBy: a, Reason: b})
		checkLine(t, queued(t, l))
		l.samples = [causes]sample{}
		l.Refusal(&Refusal{
			Time: at, Client: client, Cause: Cause(v % uint16(causes)), Listener: Kind(v % uint16(kinds)), RequestID: []byte(d),
			SNI: a, Method: []byte(b), Host: []byte(c), Path: []byte(d), Reason: a,
		})
		checkLine(t, queued(t, l))
	})
}

// queued takes the one line that was just logged.
func queued(t *testing.T, l *Log) []byte {
	t.Helper()
	chunks := l.queue.take(nil)
	if len(chunks) != 1 || chunks[0].lines != 1 {
		t.Fatalf("%d chunks", len(chunks))
	}
	line := bytes.Clone(chunks[0].buf)
	l.queue.recycle(chunks[0])
	return line
}
