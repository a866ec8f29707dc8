package health

import (
	"encoding/binary"
	"io"
	"net/http"
	"testing"
)

// frame is a gRPC message.
func frame(message ...byte) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + string(message)
}

func TestGRPC(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		request, _ := io.ReadAll(r.Body)
		if r.Method != "POST" || r.URL.Path != "/grpc.health.v1.Health/Check" || r.Header.Get("Te") != "trailers" ||
			r.Header.Get("Content-Type") != "application/grpc" || r.Header.Get("Grpc-Timeout") != "2000m" || r.ProtoMajor != 2 {
			t.Errorf("%s %s %v", r.Method, r.URL, r.Header)
		}
		answer := func(status, message, body string) {
			w.Header().Set("Content-Type", "application/grpc+proto")
			w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
			io.WriteString(w, body)
			w.Header().Set("Grpc-Status", status)
			w.Header().Set("Grpc-Message", message)
		}
		switch service := string(request[min(7, len(request)):]); service {
		case "":
			if string(request) != frame() {
				t.Errorf("request %q", request)
			}
			answer("0", "", frame(8, 1))
		case "down":
			answer("0", "", frame(8, 2))
		case "unset":
			answer("0", "", frame())
		case "future":
			answer("0", "", frame(8, 9))
		case "extended":
			answer("0", "", frame(0x12, 2, 'h', 'i', 8, 2, 0x1d, 1, 2, 3, 4, 0x21, 1, 2, 3, 4, 5, 6, 7, 8, 8, 1))
		case "garbage":
			answer("0", "", frame(8))
		case "silent":
			answer("", "", frame(8, 1))
		case "internal":
			answer("13", "broken", "")
		case "unknown": // trailers only
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "5")
		case "missing":
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", "12")
		case "html":
			io.WriteString(w, "<html>")
		default:
			http.NotFound(w, r)
		}
	}
	plain, secure := server(t, false, handler), server(t, true, handler)
	for service, want := range map[string]string{
		"": "", "extended": "",
		"down":     "gRPC: NOT_SERVING",
		"unset":    "gRPC: UNKNOWN",
		"future":   "gRPC: serving status 9",
		"garbage":  "gRPC: the answer is no HealthCheckResponse",
		"silent":   "gRPC: the answer has no grpc-status",
		"internal": "gRPC: status 13 broken",
		"unknown":  `gRPC: the VM knows no service "unknown" (NOT_FOUND)`,
		"missing":  "gRPC: the VM has no health service (UNIMPLEMENTED)",
		"html":     `gRPC: the answer is "text/html; charset=utf-8"`,
		"other":    "gRPC: HTTP status 404",
	} {
		if why := once(t, Check{Kind: GRPC, Service: service}, addressOf(plain)); why != want {
			t.Errorf("%q: %q, want %q", service, why, want)
		}
		if why := once(t, Check{Kind: GRPC, Service: service, Secure: true, RootsPEM: rootOf(secure)}, addressOf(secure)); why != want {
			t.Errorf("%q over TLS: %q, want %q", service, why, want)
		}
	}
	if why := once(t, Check{Kind: GRPC, Host: "a b"}, addressOf(plain)); why == "" {
		t.Error("a bad authority passes")
	}
}
