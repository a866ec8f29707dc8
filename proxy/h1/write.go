package h1

import (
	"strconv"
	"time"

	"usher/proxy/message"
)

// appendRequest writes the head of a request to a VM: the line, Host first,
// the fields in order, then the framing.
func appendRequest(b []byte, r *message.Request) []byte {
	b = append(append(b, r.Method...), ' ')
	b = append(append(b, r.Path...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, r.Authority...), "\r\n"...)
	b, _ = appendFields(b, &r.Header)
	switch {
	case r.Body == nil:
		if expectsBody(r.Method) {
			b = append(b, "Content-Length: 0\r\n"...)
		}
	case r.Length == message.Unknown:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	default:
		b = appendLength(b, r.Length)
	}
	if r.Body != nil && r.ExpectContinue {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Upgrade != nil:
		b = append(append(b, "Connection: Upgrade\r\nUpgrade: "...), r.Upgrade...)
		b = append(b, "\r\n"...)
	case r.AcceptTrailers:
		b = append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	return append(b, "\r\n"...)
}

// expectsBody reports whether a request of this method says that its body is
// empty (RFC 9110 section 8.6).
func expectsBody(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

func appendFields(b []byte, h *message.Header) (_ []byte, dated bool) {
	for i, fields := 0, h.All(); i < len(fields); i++ {
		f := &fields[i]
		b = append(append(b, f.Name...), ": "...)
		b = append(append(b, f.Value...), "\r\n"...)
		dated = dated || f.ID == message.Date
	}
	return b, dated
}

func appendLength(b []byte, n int64) []byte {
	b = strconv.AppendInt(append(b, "Content-Length: "...), n, 10)
	return append(b, "\r\n"...)
}

// appendDate writes a Date field (RFC 9110 section 6.6.1).
func appendDate(b []byte) []byte {
	return time.Now().UTC().AppendFormat(append(b, "Date: "...), "Mon, 02 Jan 2006 15:04:05 GMT\r\n")
}

// appendStatus writes the status line. The reason is the registered one: what
// a VM wrote there means nothing (RFC 9110 section 15.1).
func appendStatus(b []byte, status int) []byte {
	if status == 200 {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10)
	b = append(append(b, ' '), reason(status)...)
	return append(b, "\r\n"...)
}

// chunkHead is the longest size line: "\r\n" and 16 digits.
const chunkHead = 18

func appendChunkSize(b []byte, n int) []byte {
	return append(strconv.AppendUint(b, uint64(n), 16), "\r\n"...)
}

// appendLastChunk ends a chunked body. trailer may be nil.
func appendLastChunk(b []byte, trailer *message.Header) []byte {
	b = append(b, "0\r\n"...)
	if trailer != nil {
		b, _ = appendFields(b, trailer)
	}
	return append(b, "\r\n"...)
}

// reason is the phrase registered for a status, or nothing.
func reason(status int) string {
	switch status {
	case 100:
		return "Continue"
	case 101:
		return "Switching Protocols"
	case 102:
		return "Processing"
	case 103:
		return "Early Hints"
	case 201:
		return "Created"
	case 202:
		return "Accepted"
	case 203:
		return "Non-Authoritative Information"
	case 204:
		return "No Content"
	case 205:
		return "Reset Content"
	case 206:
		return "Partial Content"
	case 207:
		return "Multi-Status"
	case 301:
		return "Moved Permanently"
	case 302:
		return "Found"
	case 303:
		return "See Other"
	case 304:
		return "Not Modified"
	case 307:
		return "Temporary Redirect"
	case 308:
		return "Permanent Redirect"
	}
	return failureReason(status)
}

func failureReason(status int) string {
	switch status {
	case 400:
		return "Bad Request"
	case 401:
		return "Unauthorized"
	case 402:
		return "Payment Required"
	case 403:
		return "Forbidden"
	case 404:
		return "Not Found"
	case 405:
		return "Method Not Allowed"
	case 406:
		return "Not Acceptable"
	case 407:
		return "Proxy Authentication Required"
	case 408:
		return "Request Timeout"
	case 409:
		return "Conflict"
	case 410:
		return "Gone"
	case 411:
		return "Length Required"
	case 412:
		return "Precondition Failed"
	case 413:
		return "Content Too Large"
	case 414:
		return "URI Too Long"
	case 415:
		return "Unsupported Media Type"
	case 416:
		return "Range Not Satisfiable"
	case 417:
		return "Expectation Failed"
	case 421:
		return "Misdirected Request"
	case 422:
		return "Unprocessable Content"
	case 423:
		return "Locked"
	case 425:
		return "Too Early"
	case 426:
		return "Upgrade Required"
	case 428:
		return "Precondition Required"
	case 429:
		return "Too Many Requests"
	case 431:
		return "Request Header Fields Too Large"
	case 451:
		return "Unavailable For Legal Reasons"
	case 500:
		return "Internal Server Error"
	case 501:
		return "Not Implemented"
	case 502:
		return "Bad Gateway"
	case 503:
		return "Service Unavailable"
	case 504:
		return "Gateway Timeout"
	case 505:
		return "HTTP Version Not Supported"
	case 507:
		return "Insufficient Storage"
	case 508:
		return "Loop Detected"
	case 511:
		return "Network Authentication Required"
	}
	return ""
}
