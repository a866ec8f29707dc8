package fields

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"usher/proxy/message"
)

// parse makes an exchange of "name: value" lines; a ':' at the start of a name
// is part of it.
func parse(text string, end bool) (*message.Exchange, *Request, *message.Error) {
	var s Section
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		i := strings.IndexByte(line[1:], ':') + 1
		if !s.Add(line[:i], line[i+1:]) {
			break
		}
	}
	ex, r := new(message.Exchange), new(Request)
	err := r.Parse(&s, ex)
	if err == nil && !r.Tunnel() {
		err = r.Framing(end, &ex.Request)
	}
	return ex, r, err
}

const get = ":method:GET\n:scheme:https\n:authority:site.test\n:path:/a?b\n"

func TestAccepted(t *testing.T) {
	ex, _, err := parse(get+"cookie:a=b\nx-y: z \ncookie:c=d\nhost:SITE.test\nte:trailers\ncontent-length:3\nexpect:100-continue\n", false)
	if err != nil {
		t.Fatal(err)
	}
	r := &ex.Request
	if string(r.Method) != "GET" || string(r.Authority) != "site.test" || string(r.Path) != "/a?b" || r.Length != 3 || !r.AcceptTrailers || !r.ExpectContinue {
		t.Errorf("%+v", r)
	}
	var got []string
	for _, f := range r.Header.All() {
		got = append(got, fmt.Sprintf("%s=%s", f.Name, f.Value))
	}
	if strings.Join(got, ",") != "cookie=a=b; c=d,x-y=z" {
		t.Errorf("%q", got)
	}
	if ex, _, err = parse(get, false); err != nil || ex.Request.Length != message.Unknown {
		t.Errorf("%d %v", ex.Request.Length, err)
	}
	if ex, _, err = parse(get, true); err != nil || ex.Request.Length != 0 {
		t.Errorf("%d %v", ex.Request.Length, err)
	}
}

func TestRefused(t *testing.T) {
	tunnel := ":method:CONNECT\n:protocol:websocket\n:scheme:https\n:authority:a\n:path:/\n"
	for text, status := range map[string]int{
		":method:CONNECT\n:authority:a:1\n":              405,
		":method:CONNECT\n:authority:a:1\n:path:/\n":     0,
		get + "expect:x\n":                               417,
		get + "content-length:1\n":                       0, // and nothing follows
		get + "content-length:9223372036854775808\n":     0,
		get + "x-y:\x7f\n":                               0,
		get + "X-Y:z\n":                                  0,
		get + "proxy-connection:x\n":                     0,
		get + "keep-alive:x\n":                           0,
		get + "host:other\n":                             0,
		get + ":path:/\n":                                0,
		get + "x:y\n:protocol:z\n":                       0,
		get + strings.Repeat("a:b\n", MaxFields+1):       431,
		get + "a:" + strings.Repeat("b", MaxSize) + "\n": 431,
		tunnel:                                                           426,
		tunnel + "sec-websocket-version:12\n":                            426,
		tunnel + "content-length:0\n":                                    0,
		strings.Replace(tunnel, "websocket", "h2c", 1):                   501,
		strings.Replace(tunnel, "websocket", "HTTP/2", 1):                501,
		strings.Replace(get, "site.test", "user@site.test", 1):           0,
		strings.Replace(get, "site.test", "a,b", 1):                      0,
		strings.Replace(get, ":authority:site.test\n", "", 1):            400,
		strings.Replace(get, "/a?b", "http://a/", 1):                     0,
		strings.Replace(get, "/a?b", "/%0", 1):                           0,
		strings.Replace(get, "/a?b", "/a#b", 1):                          0,
		strings.Replace(get, "/a?b", "*", 1):                             0,
		strings.Replace(get, "/a?b", "/"+strings.Repeat("a", 16<<10), 1): 414,
		strings.Replace(get, "GET", "G\tT", 1):                           0,
		strings.Replace(get, "https", "wss", 1):                          0,
	} {
		if _, _, err := parse(text, true); err == nil || err.Status != status || err.Side != message.ClientSide {
			t.Errorf("%.80q: %v, want %d", text, err, status)
		}
	}
}

func TestTunnel(t *testing.T) {
	ex, r, err := parse(":method:CONNECT\n:protocol:websocket\n:scheme:https\n:authority:a\n:path:/\nsec-websocket-version:13\nsec-websocket-key:theirs\n", true)
	if err != nil || !r.Tunnel() {
		t.Fatal(err)
	}
	key, _ := ex.Request.Header.Get(message.SecWebSocketKey)
	if string(ex.Request.Method) != "GET" || string(ex.Request.Upgrade) != "websocket" || len(key) != 24 {
		t.Errorf("%+v", ex.Request)
	}
	good, bad := &message.Response{}, &message.Response{}
	good.Header.Add([]byte("Sec-WebSocket-Accept"), Acceptance(key))
	bad.Header.AddString("Sec-WebSocket-Accept", "x")
	if !Accepted(&ex.Request, good) || Accepted(&ex.Request, bad) || !OfHandshake(&good.Header.All()[0]) {
		t.Error("the answer to the key")
	}
	if !Accepted(&message.Request{}, bad) {
		t.Error("another protocol has no key")
	}
}

func TestTrailer(t *testing.T) {
	for text, want := range map[string]string{
		"grpc-status:0\nx-request-id:forged\nauthorization:x\nset_cookie:a\nif-match:b\nx:y": "grpc-status=0,x=y",
		":status:200":         "fault",
		"X:y":                 "fault",
		"x:\r":                "fault",
		"connection:x":        "fault",
		"transfer-encoding:x": "fault",
	} {
		var s Section
		var h message.Header
		for l := range strings.SplitSeq(text, "\n") {
			i := strings.IndexByte(l[1:], ':') + 1
			s.Add(l[:i], l[i+1:])
		}
		var got []string
		if err := Trailer(&s, &h); err != nil {
			got = []string{"fault"}
		}
		for _, f := range h.All() {
			got = append(got, fmt.Sprintf("%s=%s", f.Name, f.Value))
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestPriority(t *testing.T) {
	var h message.Header
	if Priority(&h) != nil {
		t.Error("none")
	}
	h.AddString("Priority", "u=1, i")
	u, i, ok := ParsePriority(Priority(&h))
	if u != 1 || !i || !ok {
		t.Errorf("%d %v %v", u, i, ok)
	}
}

func TestPriorities(t *testing.T) {
	for value, want := range map[string]struct {
		urgency     uint8
		incremental bool
		ok          bool
	}{
		"":              {3, false, false},
		"u=0":           {0, false, true},
		"u=7, i":        {7, true, true},
		"i;x=1,u=2;y":   {2, true, true},
		"i=?0":          {3, false, true},
		"u=8":           {3, false, false},
		"u=-1, i=?1":    {3, true, true},
		"urgency=1,ii,": {3, false, false},
	} {
		u, i, ok := ParsePriority([]byte(value))
		if u != want.urgency || i != want.incremental || ok != want.ok {
			t.Errorf("%q: %d %v %v", value, u, i, ok)
		}
	}
}

func TestRefusal(t *testing.T) {
	if r := Refusal(405); r.Header.Len() != 1 {
		t.Error("405 without Allow")
	}
	if Refuse(400, ErrHost).Status != 400 || Malformed(ErrHost).Status != 0 || ErrHost.Error() == "" {
		t.Error("faults")
	}
}

// FuzzParse looks for a section that passes and could not be written in
// HTTP/1.1. Lines are separated by 0xff, names from values by 0xfe.
func FuzzParse(f *testing.F) {
	for _, text := range []string{get, get + "cookie:a\ncookie:b\n", ":method:CONNECT\n:protocol:x\n:scheme:https\n:authority:a\n:path:/\n"} {
		var b []byte
		for l := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
			i := strings.IndexByte(l[1:], ':') + 1
			b = append(append(append(append(b, l[:i]...), 0xfe), l[i+1:]...), 0xff)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, end bool) {
		var s Section
		for l := range bytes.SplitSeq(b, []byte{0xff}) {
			name, value, _ := bytes.Cut(l, []byte{0xfe})
			s.Add(string(name), string(value))
		}
		ex, r := new(message.Exchange), new(Request)
		if r.Parse(&s, ex) != nil {
			r.Describe(&ex.Trace)
			return
		}
		for _, v := range [][]byte{ex.Request.Method, ex.Request.Path, ex.Request.Authority, ex.Request.Upgrade} {
			if bytes.ContainsAny(v, " \r\n\x00") {
				t.Errorf("%q", v)
			}
		}
		if len(ex.Request.Method) == 0 || len(ex.Request.Path) == 0 || len(ex.Request.Authority) == 0 {
			t.Error("a request line that is not whole")
		}
		for _, h := range ex.Request.Header.All() {
			if len(h.Name) == 0 || bytes.ContainsAny(h.Name, ": \r\n\x00") || bytes.ContainsAny(h.Value, "\r\n\x00") || h.ID.HopByHop() {
				t.Errorf("%q: %q", h.Name, h.Value)
			}
		}
		if !r.Tunnel() && r.Framing(end, &ex.Request) == nil && end && ex.Request.Length != 0 {
			t.Error("a length and no body")
		}
	})
}
