package fields

import (
	"fmt"
	"strings"
	"testing"

	"usher/proxy/message"
)

// section makes one of lines "name:value".
func section(text string) *Section {
	var s Section
	for l := range strings.SplitSeq(text, "\n") {
		name, value, _ := strings.Cut(strings.TrimPrefix(l, ":"), ":")
		s.Add(l[:len(l)-len(strings.TrimPrefix(l, ":"))]+name, value)
	}
	return &s
}

func TestResponse(t *testing.T) {
	for text, want := range map[string]string{
		":status:200\ncontent-length:5\nproxy-authenticate:x\na: b ": "200 5 a=b",
		":status:103\nlink:x":              "103 -1 link=x",
		":status:20":                       string(ErrStatus),
		":status:099":                      string(ErrStatus),
		":status:+20":                      string(ErrStatus),
		"a:b":                              string(ErrPseudo),
		"a:b\n:status:200":                 string(ErrPseudo),
		":status:200\n:status:200":         string(ErrPseudo),
		":path:/":                          string(ErrPseudo),
		":status:200\nA:b":                 string(ErrName),
		":status:200\na:\r":                string(ErrValue),
		":status:200\nconnection:close":    string(ErrHop),
		":status:200\ntransfer-encoding:x": string(ErrHop),
		":status:200\ncontent-length:+1":   string(ErrLength),
		":status:200\ncontent-length:1, 1": string(ErrLength),
		":status:200\ncontent-length:1\ncontent-length:1": string(ErrLength),
		":status:200\na:" + strings.Repeat("b", MaxSize):  string(ErrTooLarge),
	} {
		s := section(text)
		var r message.Response
		arena, err := Response(s, make([]byte, 0, s.Size), &r)
		got := fmt.Sprintf("%d %d", r.Status, r.Length)
		for _, f := range r.Header.All() {
			got += fmt.Sprintf(" %s=%s", f.Name, f.Value)
		}
		if err != nil {
			got = err.Error()
		}
		if got != want || cap(arena) != s.Size {
			t.Errorf("%.60q: %q, want %q", text, got, want)
		}
	}
}

// FuzzResponse looks for a head that passes and could not be written in
// HTTP/1.1.
func FuzzResponse(f *testing.F) {
	f.Add(":status:200\na:b")
	f.Fuzz(func(t *testing.T, text string) {
		s := section(text)
		var r message.Response
		if _, err := Response(s, make([]byte, 0, s.Size), &r); err != nil {
			return
		}
		if r.Status < 100 || r.Status > 999 || r.Length < message.Unknown {
			t.Errorf("%d %d", r.Status, r.Length)
		}
		for _, l := range r.Header.All() {
			if strings.ContainsAny(string(l.Name), " \t\r\n\x00:") || len(l.Name) == 0 || strings.ContainsAny(string(l.Value), "\r\n\x00") || l.ID.HopByHop() {
				t.Errorf("field %q: %q", l.Name, l.Value)
			}
		}
	})
}
