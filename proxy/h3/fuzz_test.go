package h3

import (
	"bytes"
	"context"
	"io"
	"testing"

	"usher/proxy/message"
)

// FuzzStream serves what is on a request stream, however it arrives. What
// reaches the handler must be a request that can be written in HTTP/1.1.
func FuzzStream(f *testing.F) {
	for _, seed := range [][]byte{
		get(), request("POST", "content-length", "3"), slices(request("POST"), frame(frameData, []byte("abc")), headers("x", "y")),
		slices(request("PUT", "cookie", "a", "cookie", "b"), frame(reserved, []byte("g")), frame(frameData, nil)),
		frame(frameData, nil), frame(frameGoAway, []byte{0}), {frameHeaders, 0x40}, get("te", "trailers", "host", "site.test"),
		headers(":method", "CONNECT", ":protocol", "x", ":scheme", "https", ":authority", "a", ":path", "/"),
	} {
		f.Add(seed, 0)
		f.Add(seed, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		c := bare(&handler{serve: func(_ context.Context, ex *message.Exchange) {
			examine(t, ex)
			if ex.Request.Upgrade != nil {
				ex.Stream.WriteHead(&message.Response{Status: 502})
				ex.Stream.CloseWrite(nil)
				return
			}
			hello(context.Background(), ex)
		}})
		c.run(&fake{in: b, step: max(step, 0)})
		if c.busy != 0 || c.heads != 0 || c.running != 0 {
			t.Errorf("left behind: %d streams, %d bytes, %d handlers", c.busy, c.heads, c.running)
		}
	})
}

// examine checks what no request may have.
func examine(t *testing.T, ex *message.Exchange) {
	r := &ex.Request
	for _, v := range [][]byte{r.Method, r.Path, r.Authority, r.Upgrade} {
		if bytes.ContainsAny(v, " \r\n\x00") {
			t.Errorf("%q", v)
		}
	}
	if len(r.Method) == 0 || len(r.Path) == 0 || len(r.Authority) == 0 || r.Path[0] != '/' && string(r.Path) != "*" {
		t.Errorf("%q %q %q", r.Method, r.Path, r.Authority)
	}
	for _, f := range r.Header.All() {
		if len(f.Name) == 0 || bytes.ContainsAny(f.Name, ": \r\n\x00") || bytes.ContainsAny(f.Value, "\r\n\x00") || f.ID.HopByHop() {
			t.Errorf("%q: %q", f.Name, f.Value)
		}
	}
	if r.Body == nil {
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err == nil && r.Length >= 0 && n != r.Length {
		t.Errorf("%d bytes of %d and a clean end", n, r.Length)
	}
}

// FuzzControl reads what is on the unidirectional streams.
func FuzzControl(f *testing.F) {
	for kind := range byte(4) {
		f.Add(kind, []byte{0x20, 0x41, 0x7f, 0x00})
		f.Add(kind, slices(frame(frameSettings, []byte{6, 1}), frame(frameGoAway, []byte{4}), frame(reserved, []byte("x")), frame(frameMaxPushID, []byte{1})))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		c := bare(&handler{})
		in := input{read: bytes.NewReader(b).Read, buf: make([]byte, 128)}
		if _, ok := critical(c.essential([]uint64{streamControl, streamEncoder, streamDecoder}[kind%3], &in)).(connError); !ok {
			t.Error("a critical stream may not end")
		}
	})
}

func FuzzVarint(f *testing.F) {
	f.Add([]byte{0x40, 1})
	f.Add([]byte{0xc0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n := parseVarint(b)
		if n > len(b) || n > 0 && v >= 1<<62 {
			t.Fatalf("%d %d", v, n)
		}
		again, m := parseVarint(appendVarint(nil, v))
		if n > 0 && (again != v || m > n) {
			t.Errorf("%d became %d", v, again)
		}
	})
}
