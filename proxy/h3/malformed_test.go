package h3

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/quic-go/quic-go"
)

// many is n fields.
func many(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprintf("x-%d", i), "v")
	}
	return lines
}

func TestRefusedRequests(t *testing.T) {
	h := &handler{serve: hello}
	s := start(t, h)
	pseudo := func(lines ...string) []byte { return headers(lines...) }
	for name, test := range map[string]struct {
		request []byte
		status  string // of the answer; empty for a stream error
	}{
		"CONNECT":              {pseudo(":method", "CONNECT", ":authority", "site.test:443"), "405"},
		"too many fields":      {get(many(201)...), "431"},
		"200 fields":           {get(many(200)...), "200"},
		"section over 64 KiB":  {get("x", strings.Repeat("a", 66<<10)), "431"},
		"section over 128 KiB": {get("x", strings.Repeat("\x7f", 10<<10), "y", strings.Repeat("\xff", 64<<10)), "431"},
		"long target":          {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/"+strings.Repeat("a", 16<<10)), "414"},
		"expectation":          {get("expect", "x"), "417"},
		"no authority":         {pseudo(":method", "GET", ":scheme", "https", ":path", "/"), "400"},
		"no method":            {pseudo(":scheme", "https", ":authority", "a", ":path", "/"), ""},
		"no path":              {pseudo(":method", "GET", ":scheme", "https", ":authority", "a"), ""},
		"empty path":           {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", ":path", ""), ""},
		"path without slash":   {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "x"), ""},
		"space in path":        {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/a b"), ""},
		"NUL in path":          {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", ":path", "/%00"), ""},
		"CRLF in authority":    {pseudo(":method", "GET", ":scheme", "https", ":authority", "a\r\nb", ":path", "/"), ""},
		"space in method":      {pseudo(":method", "GET /x", ":scheme", "https", ":authority", "a", ":path", "/"), ""},
		"scheme":               {pseudo(":method", "GET", ":scheme", "ftp", ":authority", "a", ":path", "/"), ""},
		"method twice":         {get(":method", "GET"), ""},
		"unknown pseudo":       {get(":x", "y"), ""},
		"status":               {get(":status", "200"), ""},
		"pseudo last":          {pseudo(":method", "GET", ":scheme", "https", ":authority", "a", "x", "y", ":path", "/"), ""},
		"host differs":         {get("host", "other.test"), ""},
		"host twice":           {get("host", "site.test", "host", "site.test"), ""},
		"connection":           {get("connection", "close"), ""},
		"transfer-encoding":    {get("transfer-encoding", "chunked"), ""},
		"upgrade":              {get("upgrade", "h2c"), ""},
		"te":                   {get("te", "gzip"), ""},
		"upper case":           {get("X-Upper", "y"), ""},
		"empty name":           {get("", "y"), ""},
		"space in name":        {get("a b", "y"), ""},
		"CR in name":           {get("a\r\nx", "y"), ""},
		"CR in value":          {get("a", "x\ry"), ""},
		"LF in value":          {get("a", "x\ny"), ""},
		"NUL in value":         {get("a", "x\x00y"), ""},
		"length list":          {get("content-length", "1, 1"), ""},
		"length twice":         {get("content-length", "0", "content-length", "0"), ""},
		"length sign":          {get("content-length", "+0"), ""},
		"length without body":  {get("content-length", "5"), ""},
		"protocol on GET":      {get(":protocol", "websocket"), ""},
		"empty stream":         {nil, ""},
		"only grease":          {frame(reserved, []byte("x")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.greeted()
			before := h.served.Load()
			r := c.reply(c.send(test.request))
			if r.status != test.status || (r.err != nil) != (test.status == "") {
				t.Fatalf("%+v", r)
			}
			if test.status == "" {
				wantStream(t, r.err, codeMessage, codeIncomplete)
			}
			if served := h.served.Load() != before; served != (test.status == "200") {
				t.Error("reached the handler")
			}
			if r = c.reply(c.send(get())); r.status != "200" {
				t.Errorf("the connection is no good afterwards: %+v", r)
			}
		})
	}
}

func wantStream(t *testing.T, err error, codes ...quic.StreamErrorCode) {
	t.Helper()
	var se *quic.StreamError
	if !errors.As(err, &se) {
		t.Fatalf("not a stream error: %v", err)
	}
	for _, code := range codes {
		if se.ErrorCode == code {
			return
		}
	}
	t.Errorf("code %#x", uint64(se.ErrorCode))
}

func TestMalformedBodies(t *testing.T) {
	s := start(t, &handler{serve: hello})
	for name, tail := range map[string][]byte{
		"shorter":              frame(frameData, []byte("abcd")),
		"longer":               frame(frameData, []byte("abcdef")),
		"longer later":         slices(frame(frameData, []byte("abcde")), frame(frameData, []byte("f"))),
		"short with a trailer": slices(frame(frameData, []byte("abcd")), headers("x", "y")),
		"pseudo in trailer":    slices(frame(frameData, []byte("abcde")), headers(":path", "/")),
		"upper in trailer":     slices(frame(frameData, []byte("abcde")), headers("X", "/")),
		"hop in trailer":       slices(frame(frameData, []byte("abcde")), headers("transfer-encoding", "chunked")),
	} {
		t.Run(name, func(t *testing.T) {
			c := s.greeted()
			r := c.reply(c.send(slices(request("POST", "content-length", "5"), tail)))
			wantStream(t, r.err, codeMessage)
			if r = c.reply(c.send(get())); r.status != "200" {
				t.Errorf("the connection is no good afterwards: %+v", r)
			}
		})
	}
}

// wantClosed expects the connection to end with a code.
func (c *raw) wantClosed(code quic.ApplicationErrorCode) {
	c.t.Helper()
	wait(c.t, "the connection ends", func() bool { return c.Context().Err() != nil })
	var app *quic.ApplicationError
	if _, err := c.AcceptStream(c.t.Context()); !errors.As(err, &app) || app.ErrorCode != code || !app.Remote {
		c.t.Errorf("ended with %v, want %#x", err, uint64(code))
	}
}

func TestFaultsOfAConnection(t *testing.T) {
	s := start(t, &handler{serve: hello})
	stream := func(b ...[]byte) func(*raw) { return func(c *raw) { c.send(slices(b...)) } }
	control := func(b ...[]byte) func(*raw) {
		return func(c *raw) { c.uni(append([]byte{streamControl}, slices(b...)...)...) }
	}
	empty := frame(frameSettings, nil)
	for name, test := range map[string]struct {
		do   func(*raw)
		code quic.ApplicationErrorCode
	}{
		"DATA first":              {stream(frame(frameData, []byte("x"))), codeUnexpected},
		"SETTINGS on a stream":    {stream(get(), empty), codeUnexpected},
		"GOAWAY on a stream":      {stream(frame(frameGoAway, []byte{0})), codeUnexpected},
		"HTTP/2 PING":             {stream(get(), frame(0x6, nil)), codeUnexpected},
		"PUSH_PROMISE":            {stream(get(), frame(framePushPromise, []byte{0})), codeUnexpected},
		"HEADERS after a trailer": {stream(request("POST"), headers("x", "y"), headers("x", "y")), codeUnexpected},
		"DATA after a trailer":    {stream(request("POST"), headers("x", "y"), frame(frameData, []byte("x"))), codeUnexpected},
		"cut HEADERS":             {stream(get()[:5]), codeFrame},
		"cut frame header":        {stream([]byte{frameHeaders}), codeFrame},
		"cut DATA":                {stream(request("POST"), frame(frameData, []byte("xyz"))[:3]), codeFrame},
		"dynamic table":           {stream(frame(frameHeaders, []byte{1, 0, 0x80})), codeDecompression},
		"empty HEADERS":           {stream(frame(frameHeaders, nil)), codeDecompression},
		"bad index":               {stream(frame(frameHeaders, []byte{0, 0, 0xff, 0xff, 0x7f})), codeDecompression},
		"bad Huffman":             {stream(frame(frameHeaders, []byte{0, 0, 0x2b, 0xff, 0xff, 0xff, 0x00})), codeDecompression},
		"push stream":             {func(c *raw) { c.uni(streamPush, 0) }, codeStreamCreation},
		"two control streams":     {func(c *raw) { control(empty)(c); control(empty)(c) }, codeStreamCreation},
		"control closed":          {func(c *raw) { c.uni(append([]byte{streamControl}, empty...)...).Close() }, codeClosedCritical},
		"control reset": {func(c *raw) {
			str := c.uni(streamControl, frameSettings, 0)
			c.reply(c.send(get()))
			str.CancelWrite(1)
		}, codeClosedCritical},
		"no SETTINGS":                  {control(frame(frameGoAway, []byte{0})), codeNoSettings},
		"SETTINGS twice":               {control(empty, empty), codeUnexpected},
		"DATA on control":              {control(empty, frame(frameData, nil)), codeUnexpected},
		"setting twice":                {control(frame(frameSettings, []byte{6, 1, 6, 1})), codeSettings},
		"setting of HTTP/2":            {control(frame(frameSettings, []byte{2, 1})), codeSettings},
		"setting cut":                  {control(frame(frameSettings, []byte{6})), codeFrame},
		"GOAWAY grows":                 {control(empty, frame(frameGoAway, []byte{0}), frame(frameGoAway, []byte{1})), codeID},
		"MAX_PUSH_ID shrinks":          {control(empty, frame(frameMaxPushID, []byte{5}), frame(frameMaxPushID, []byte{4})), codeID},
		"CANCEL_PUSH":                  {control(empty, frame(frameCancelPush, []byte{0})), codeID},
		"PRIORITY_UPDATE of a push":    {control(empty, frame(framePriorityEnd, []byte{0, 'u'})), codeID},
		"PRIORITY_UPDATE of no stream": {control(empty, frame(framePriority, []byte{1, 'u'})), codeID},
		"empty PRIORITY_UPDATE":        {control(empty, frame(framePriority, nil)), codeFrame},
		"encoder inserts":              {func(c *raw) { c.uni(streamEncoder, 0x20, 0x4a) }, codeEncoderStream},
		"decoder acknowledges":         {func(c *raw) { c.uni(streamDecoder, 0x41, 0x80) }, codeDecoderStream},
	} {
		t.Run(name, func(t *testing.T) {
			c := s.dial()
			c.t = t
			test.do(c)
			c.wantClosed(test.code)
		})
	}
}

func TestUnknownStreamsAndFramesAreIgnored(t *testing.T) {
	s := start(t, &handler{serve: hello})
	c := s.dial()
	c.uni(slices([]byte{streamControl}, frame(frameSettings, []byte{6, 0x44, 0}), frame(reserved, []byte("x")), frame(framePriority, []byte{0, 'u'}))...)
	c.uni(0x40, 0x54, 1, 2, 3)
	c.uni(streamEncoder, 0x20)
	c.uni(streamDecoder, 0x41, 0x7f, 0x80, 0x01)
	r := c.reply(c.send(slices(frame(reserved, make([]byte, 3000)), request("POST"), frame(reserved, []byte("x")),
		frame(frameData, []byte("ab")), frame(0x40+reserved, make([]byte, 9000)), frame(frameData, nil), frame(frameData, []byte("c")),
		headers("x", "y"), frame(reserved, nil))))
	if r.status != "200" || string(r.body) != "abc" || r.err != nil {
		t.Errorf("%+v", r)
	}
}
