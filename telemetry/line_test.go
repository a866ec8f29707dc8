package telemetry

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestJudge has each byte at each place among clean ones.
func TestJudge(t *testing.T) {
	for n := range 20 {
		for at := range n {
			for c := range 256 {
				s := []byte(strings.Repeat("~", n))
				s[at] = byte(c)
				wantPlain := c >= 0x20 && c <= 0x7e
				wantAsIs := wantPlain && c != '"' && c != '\\'
				if asIs, plain := judge(s); asIs != wantAsIs || plain != wantPlain {
					t.Fatalf("%q: %v %v", s, asIs, plain)
				}
			}
		}
	}
	if asIs, plain := judge([]byte(" !#[]azAZ09}~/?=&%")); !asIs || !plain {
		t.Error("a common value is escaped")
	}
}

func TestMillis(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0", time.Microsecond: "0.001", 999 * time.Nanosecond: "0", 1500 * time.Microsecond: "1.5", 10 * time.Microsecond: "0.01",
		100 * time.Microsecond: "0.1", time.Second: "1000", time.Second + time.Microsecond: "1000.001", -1100 * time.Microsecond: "-1.1",
		100 * time.Hour: "360000000",
	} {
		n := &line{}
		n.millis("d", d)
		if got := string(n.b); got != `,"d":`+want {
			t.Errorf("%v: %s, want %s", d, got, want)
		}
	}
}

// TestTimeOfALine has the kept part of the time follow every change.
func TestTimeOfALine(t *testing.T) {
	n := &line{}
	start := time.Date(2026, 2, 28, 23, 59, 59, 999_999_999, time.FixedZone("", 3600))
	for _, step := range []time.Duration{0, time.Nanosecond, time.Millisecond, 999 * time.Millisecond, -time.Second, 24 * time.Hour} {
		at := start.Add(step)
		n.b = n.b[:0]
		n.time(at)
		if want := at.UTC().Format(timeLayout); string(n.b) != want {
			t.Errorf("got %s, want %s", n.b, want)
		}
	}
	n = &line{}
	n.time(time.Unix(0, 0))
	if string(n.b) != "1970-01-01T00:00:00.000Z" {
		t.Errorf("got %s", n.b)
	}
}

func FuzzText(f *testing.F) {
	f.Add(`a"b\c`, "\x1b[0m", "grün")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		n := &line{}
		n.b = append(n.b, `{"x":0`...)
		n.text("a", a)
		n.bytes("b", []byte(b))
		n.long("c", []byte(c), 5)
		n.b = append(n.b, '}')
		var m map[string]any
		if err := json.Unmarshal(n.b, &m); err != nil {
			t.Fatalf("%q: %v", n.b, err)
		}
		for _, s := range []string{"a", "b", "c"} {
			text, _ := m[s].(string)
			checkText(t, text)
		}
		if plain := strings.Trim(a, "abcdefghijklmnopqrstuvwxyz\"\\ ") == ""; plain && len(a) <= maxField && len(a) > 0 && m["a"] != a {
			t.Fatalf("%q became %q", a, m["a"])
		}
	})
}
