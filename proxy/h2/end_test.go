package h2

import (
	"bytes"
	"context"
	"io"
	"testing"

	"golang.org/x/net/http2"

	"usher/proxy/message"
)

// ending is what a stream was made of: H for HEADERS, D for DATA with bytes,
// E for an empty one, R for RST_STREAM, a dot after the one with END_STREAM.
func (p *peer) ending(id uint32) (frames string) {
	p.t.Helper()
	for {
		f := p.read()
		if f.Header().StreamID != id {
			continue
		}
		kind := ""
		switch f := f.(type) {
		case *http2.HeadersFrame:
			kind = "H"
		case *http2.DataFrame:
			if kind = "D"; len(f.Data()) == 0 {
				kind = "E"
			}
		case *http2.RSTStreamFrame:
			return frames + "R"
		default:
			continue
		}
		if frames += kind; f.Header().Flags.Has(http2.FlagDataEndStream) {
			return frames + "."
		}
	}
}

// occupy makes everybody believe that somebody else is writing, until the
// function is called that it returns.
func (m *mux) occupy(t testing.TB) (leave func()) {
	eventually(t, "nothing is to be written", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.flushing || len(m.out.b) > 0 {
			return false
		}
		m.flushing = true
		return true
	})
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.handOver()
	}
}

// TestWhatEndsARequest: END_STREAM is in HEADERS only if the head says that
// there is no body, however late the frames are written. A gRPC server hears
// the end of a request in DATA alone.
func TestWhatEndsARequest(t *testing.T) {
	empty := func() message.Body { return bytesBody{bytes.NewReader(nil)} }
	for name, c := range map[string]struct {
		body   message.Body
		length int64
		kind   string
		want   string
	}{
		"no body":                {nil, 0, "", "H."},
		"no body, gRPC":          {nil, 0, "application/grpc", "HE."},
		"no body, gRPC, subtype": {nil, 0, "Application/gRPC+proto", "HE."},
		"no body, text":          {nil, 0, "application/json", "H."},
		"empty":                  {empty(), message.Unknown, "", "HE."},
		"empty, declared":        {empty(), 0, "", "HE."},
		"empty, gRPC":            {empty(), message.Unknown, "application/grpc", "HE."},
		"body":                   {bytesBody{bytes.NewReader([]byte("x"))}, message.Unknown, "", "HD."},
	} {
		t.Run(name, func(t *testing.T) {
			cc, p := fake(t)
			leave := cc.occupy(t)
			ex := exchangeFor("POST", "/", c.body, c.length)
			if c.kind != "" {
				ex.Request.Header.AddString("Content-Type", c.kind)
			}
			call, done := begin(t, cc, ex, 0)
			eventually(t, "the request has ended", func() bool {
				cc.mu.Lock()
				defer cc.mu.Unlock()
				return call.opened && call.finished
			})
			leave()
			if got := p.ending(1); got != c.want {
				t.Errorf("the request was %q, not %q", got, c.want)
			}
			p.headers(1, true, ":status", "200")
			if err := <-done; err != nil {
				t.Error(err)
			}
			call.Finish()
		})
	}
}

// TestWhatEndsAResponse: END_STREAM is in HEADERS if nothing can follow, also
// when somebody else writes them before the handler is done. gRPC clients take
// a status from a head only then.
func TestWhatEndsAResponse(t *testing.T) {
	var trailer message.Header
	trailer.AddString("Grpc-Status", "5")
	for name, c := range map[string]struct {
		method  string
		r       message.Response
		write   string
		trailer *message.Header
		want    string
	}{
		"nothing":             {"POST", message.Response{Status: 200}, "", &message.Header{}, "H."},
		"HEAD":                {"HEAD", message.Response{Status: 200, Length: 10}, "", nil, "H."},
		"304":                 {"GET", message.Response{Status: 304, Length: message.Unknown}, "", nil, "H."},
		"body":                {"GET", message.Response{Status: 200, Length: 1}, "x", nil, "HD."},
		"body turns out none": {"GET", message.Response{Status: 200, Length: message.Unknown}, "", nil, "HE."},
		"trailers":            {"POST", message.Response{Status: 200, Length: message.Unknown}, "", &trailer, "HH."},
		"trailers, no bytes":  {"POST", message.Response{Status: 200, Body: bytesBody{}}, "", &trailer, "HH."},
	} {
		for _, early := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				failed := make(chan error, 1)
				_, conn := serve(t, &testConfig, func(_ context.Context, ex *message.Exchange) {
					err := ex.Stream.WriteHead(&c.r)
					if err == nil && early {
						err = ex.Stream.Flush()
					}
					if err == nil {
						_, err = io.WriteString(ex.Stream, c.write)
					}
					if err == nil {
						err = ex.Stream.CloseWrite(c.trailer)
					}
					failed <- err
				})
				p := client(t, conn)
				for id := uint32(1); id < 6; id += 2 {
					p.headers(id, true, replace(":method", c.method)...)
					if got := p.ending(id); got != c.want {
						t.Errorf("early %v: the response was %q, not %q", early, got, c.want)
					}
					if err := <-failed; err != nil {
						t.Error(err)
					}
				}
				conn.Close()
			})
		}
	}
}
