package h1

import (
	"bufio"
	"bytes"
	"net/http"
	"testing"

	"usher/proxy/message"
)

// nobody stands for a body of which only the framing matters.
type nobody struct{}

func (nobody) Read([]byte) (int, error) { panic("read") }
func (nobody) Stop(error)               {}

// parseRequest parses the head at the front of raw, of which step more bytes
// arrive at a time.
func parseRequest(raw []byte, step int) (r message.Request, size int, err *message.Error) {
	var h requestHead
	for n := min(step, len(raw)); ; n = min(n+step, len(raw)) {
		done, size, err := h.parse(raw[:n:n], &r)
		if err != nil || done {
			if r.Length != 0 {
				r.Body = nobody{}
			}
			return r, size, err
		}
		if n == len(raw) {
			return r, 0, nil
		}
	}
}

func FuzzRequestHead(f *testing.F) {
	for _, v := range vectors(f, "request-*.txt") {
		f.Add([]byte(v.in))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		raw = bytes.Clone(raw)
		slow, slowSize, slowErr := parseRequest(bytes.Clone(raw), 1+len(raw)/50)
		r, size, err := parseRequest(raw, len(raw)+1)
		if size != slowSize || (err == nil) != (slowErr == nil) {
			t.Fatalf("%d %v at once, %d %v in pieces", size, err, slowSize, slowErr)
		}
		if err != nil || size == 0 {
			return
		}
		sameRequest(t, &r, &slow)
		out := appendRequest(nil, &r)
		again, n, err := parseRequest(bytes.Clone(out), len(out))
		if err != nil || n != len(out) {
			t.Fatalf("%q was accepted, its forwarded form %q not: %v", raw, out, err)
		}
		sameRequest(t, &r, &again)
		agreeRequest(t, &r)
	})
}

func sameRequest(t *testing.T, a, b *message.Request) {
	t.Helper()
	if string(a.Method) != string(b.Method) || string(a.Path) != string(b.Path) || string(a.Authority) != string(b.Authority) ||
		a.Length != b.Length || string(a.Upgrade) != string(b.Upgrade) {
		t.Fatalf("%q is not %q", appendRequest(nil, a), appendRequest(nil, b))
	}
	sameFields(t, &a.Header, &b.Header)
}

func sameFields(t *testing.T, a, b *message.Header) {
	t.Helper()
	if a.Len() != b.Len() {
		t.Fatalf("%d fields, then %d", a.Len(), b.Len())
	}
	for i, f := range a.All() {
		if g := b.All()[i]; string(f.Name) != string(g.Name) || string(f.Value) != string(g.Value) || f.ID != g.ID {
			t.Fatalf("field %q: %q, then %q: %q", f.Name, f.Value, g.Name, g.Value)
		}
	}
}

// agreeRequest has net/http read what a VM would get. Its ideas of URLs and
// hosts are not ours, so they are left out.
func agreeRequest(t *testing.T, r *message.Request) {
	c := *r
	c.Path, c.Authority = []byte("/"), []byte("a")
	out := appendRequest(nil, &c)
	got, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(out)))
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", out, err)
	}
	length := r.Length
	if length == message.Unknown != (len(got.TransferEncoding) == 1) || length >= 0 && got.ContentLength != length {
		t.Fatalf("length %d, net/http has %d %v", length, got.ContentLength, got.TransferEncoding)
	}
	if got.Method != string(r.Method) {
		t.Fatalf("method %q, net/http has %q", r.Method, got.Method)
	}
}

func parseResponse(raw []byte, step int) (h responseHead, r message.Response, size int, err error) {
	for n := min(step, len(raw)); ; n = min(n+step, len(raw)) {
		done, size, err := h.parse(raw[:n:n], &r)
		if err != nil || done || n == len(raw) {
			return h, r, size, err
		}
	}
}

func FuzzResponseHead(f *testing.F) {
	for _, v := range vectors(f, "response-*.txt") {
		f.Add([]byte(v.in), v.asked != "" && v.asked[0] == 'H')
	}
	f.Fuzz(func(t *testing.T, raw []byte, head bool) {
		method := []byte("GET")
		if head {
			method = []byte("HEAD")
		}
		_, slow, slowSize, slowErr := parseResponse(raw, 1+len(raw)/50)
		h, r, size, err := parseResponse(raw, len(raw)+1)
		if size != slowSize || (err == nil) != (slowErr == nil) {
			t.Fatalf("%d %v at once, %d %v in pieces", size, err, slowSize, slowErr)
		}
		if err != nil || size == 0 {
			return
		}
		sameFields(t, &r.Header, &slow.Header)
		mode, length := h.bodyOf(method)
		agreeResponse(t, raw[:size], string(method), mode, length)
	})
}

// agreeResponse compares the framing with net/http's.
func agreeResponse(t *testing.T, raw []byte, method string, mode framing, length int64) {
	got, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("net/http refuses %q: %v", raw, err)
	}
	if got.StatusCode < 200 || mode == noBody {
		return
	}
	isChunked := len(got.TransferEncoding) == 1
	if isChunked != (mode == byChunks) || mode == byLength && got.ContentLength != length || mode == byClose && got.ContentLength != -1 {
		t.Fatalf("%q: mode %d, length %d; net/http has %v, %d", raw, mode, length, got.TransferEncoding, got.ContentLength)
	}
}
