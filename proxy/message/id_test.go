package message

import (
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	for name, want := range map[string]ID{
		"host": Host, "Host": Host, "HOST": Host, "hos": Other, "hosts": Other, "": Other, "x": Other,
		"Content-Length": ContentLength, "content_length": Other, "Content-Lengt\x08": Other,
		"transfer-encoding": TransferEncoding, "transfer_encoding": Other, "TE": TE, "via": Via,
		"X-Forwarded-For": XForwardedFor, "x_forwarded_for": XForwardedFor, "X-FORWARDED_proto": XForwardedProto,
		"X-Forwarded-Prefix": XForwarded, "x_forwarded_": XForwarded, "X-Forwarded": Other,
		"X-Forwarded-" + strings.Repeat("a", 100): XForwarded,
		"Forwarded": Forwarded, "X_Real_IP": XRealIP, "X-Request_ID": XRequestID,
		"Sec-WebSocket-Key": SecWebSocketKey, "strict-transport-security": StrictTransportSecurity,
		"WWW-Authenticate": WWWAuthenticate, "www_authenticate": Other, "HTTP2-Settings": HTTP2Settings,
	} {
		if got := Classify([]byte(name)); got != want {
			t.Errorf("%q is %d, want %d", name, got, want)
		}
	}
}

func TestAllowedInTrailer(t *testing.T) {
	for name, want := range map[string]bool{
		"grpc-status": true, "Server-Timing": true, "ETag": true, "Digest": true, "X-Sum": true, "my_field": true,
		"Content-Length": false, "content_length": false, "Host": false, "Transfer_Encoding": false, "TE": false,
		"X-Forwarded-For": false, "x_forwarded_prefix": false, "Forwarded": false, "X-Real_IP": false,
		"Authorization": false, "Proxy-Authorization": false, "proxy_x": false, "Cookie": false, "Set-Cookie": false,
		"Cache-Control": false, "If-None-Match": false, "Range": false, "Content-Type": false, "Trailer": false,
		"Via": false, "X-Request-Id": false, "Alt-Svc": false, "Date": false, "Location": false,
	} {
		f := Field{Name: []byte(name), ID: Classify([]byte(name))}
		if got := AllowedInTrailer(&f); got != want {
			t.Errorf("%q is %v, want %v", name, got, want)
		}
	}
}

func TestEqualFold(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true}, {"aZ-9", "Az-9", true}, {"a", "ab", false}, {"@", "`", false}, {"[", "{", false},
		{"-", "\r", false}, {"k", "\u212a", false}, {"\xe9", "\xc9", false},
	} {
		if got := EqualFold([]byte(c.a), c.b); got != c.want {
			t.Errorf("%q and %q: %v", c.a, c.b, got)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	var names [][]byte
	for name := range strings.FieldsSeq("Host User-Agent Accept Accept-Language Accept-Encoding Connection Cookie Sec-Fetch-Dest If-None-Match Content-Length") {
		names = append(names, []byte(name))
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, name := range names {
			Classify(name)
		}
	}
}
