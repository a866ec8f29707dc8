package h1

import (
	"bytes"

	"usher/proxy/message"
)

// requestHead is the parser of one request head. parse may be called again
// with more bytes, as long as the earlier ones have not moved.
type requestHead struct {
	facts
	lines  lines
	target target
	minor  byte // of the version
	lined  bool // the request line was read
}

func (h *requestHead) reset() { *h = requestHead{} }

// parse reads a head from b. done says that it is complete and size bytes
// long, and that req is filled, all but its Body.
func (h *requestHead) parse(b []byte, req *message.Request) (done bool, size int, err *message.Error) {
	if !h.lined {
		n, err := h.requestLine(b, req)
		if err != nil || n == 0 {
			return false, 0, err
		}
		h.lined, h.lines.at, h.lines.begin = true, n, n
	}
	var f message.Field
	for {
		got, err := h.lines.next(b, &f)
		switch {
		case err != nil:
			return false, 0, refuseLine(err)
		case got == more:
			return false, 0, nil
		case got == end:
			return true, h.lines.at, h.judge(req)
		case endToEnd(f.ID):
			req.Header.AddField(f.ID, f.Name, f.Value)
		default:
			h.note(&f)
		}
	}
}

// refuseLine is the answer to a faulty field section.
func refuseLine(err error) *message.Error {
	if err == errTooLarge || err == errTooMany {
		return refuse(431, err.(fault))
	}
	return refuse(400, err.(fault))
}

// maxMethod is far longer than any method that is registered.
const maxMethod = 32

// requestLine reads "METHOD SP target SP HTTP/1.x CRLF" (RFC 9112 section 3)
// and is zero when it has not arrived completely. One empty line may come
// before it.
func (h *requestHead) requestLine(b []byte, req *message.Request) (size int, err *message.Error) {
	start := 0
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		start = 2
	}
	m := tokenEnd(b, start)
	if m == len(b) || len(b) == 1 && b[0] == '\r' {
		if m-start > maxMethod {
			return 0, refuse(400, errMethod)
		}
		return 0, nil
	}
	if b[m] != ' ' || m == start || m-start > maxMethod {
		return 0, refuse(400, badMethod(b[m]))
	}
	n, bad := checkTarget(b[m+1:])
	if bad != nil {
		return 0, refuse(targetStatus(bad), bad.(fault))
	}
	if n < 0 {
		return 0, nil
	}
	version := b[m+1+n+1:]
	if done, err := h.version(version); err != nil || !done {
		return 0, err
	}
	req.Method = b[start:m:m]
	if h.target, bad = split(req.Method, b[m+1:m+1+n:m+1+n]); bad != nil {
		return 0, refuse(400, bad.(fault))
	}
	req.Path = h.target.path
	return m + 1 + n + 1 + len("HTTP/1.1\r\n"), nil
}

func badMethod(c byte) fault {
	if c == '\r' || c == '\n' {
		return errStart
	}
	return errMethod
}

func targetStatus(err error) int {
	if err == errLongTarget {
		return 414
	}
	return 400
}

// version reads "HTTP/1.1\r\n" or 1.0. Another version that is spelled like
// one is 505, anything else 400.
func (h *requestHead) version(b []byte) (done bool, err *message.Error) {
	const like = "HTTP/1.1\r\n"
	if len(b) >= len(like) && string(b[:len(like)]) == like {
		h.minor = 1
		return true, nil
	}
	for i := 0; i < len(b) && i < len(like); i++ {
		if b[i] != like[i] && !(isDigit(like[i]) && isDigit(b[i])) {
			return false, refuse(400, errStart)
		}
	}
	if len(b) < len(like) {
		return false, nil
	}
	if b[5] != '1' || b[7] > '1' {
		return false, refuse(505, errVersion)
	}
	h.minor = b[7] - '0'
	return true, nil
}

// judge decides what the complete head means.
func (h *requestHead) judge(req *message.Request) *message.Error {
	if err := h.authority(req); err != nil {
		return err
	}
	if err := h.framing(req); err != nil {
		return err
	}
	switch {
	case h.target.connect:
		return refuse(405, errConnect)
	case h.badExpect && h.minor == 1:
		return refuse(417, errExpect)
	case h.overflow:
		return refuse(400, errConnection)
	}
	h.dropNamed(&req.Header)
	req.ExpectContinue = h.expect && h.minor == 1
	req.AcceptTrailers = h.trailers
	return h.switching(req)
}

// authority takes the one Host, which an absolute target has to repeat.
func (h *requestHead) authority(req *message.Request) *message.Error {
	switch {
	case h.hosts != 1:
		return refuse(400, errHosts)
	case !checkHost(h.host):
		return refuse(400, errHost)
	case h.target.absolute && !equalFold(h.target.authority, h.host):
		return refuse(400, errAuthority)
	}
	req.Authority = h.host
	if req.Path[0] == '?' {
		// An absolute target without a path. The byte before is the last of
		// its authority, which nobody needs any more.
		whole := h.target.authority[:len(h.target.authority)+len(req.Path)]
		req.Path = whole[len(h.target.authority)-1:]
		req.Path[0] = '/'
	}
	return nil
}

// framing finds the length of the body, whatever the method (RFC 9112 section
// 6.3).
func (h *requestHead) framing(req *message.Request) *message.Error {
	switch {
	case h.lengths > 0 && h.coding != noCoding:
		return refuse(400, errBoth)
	case h.coding != noCoding && h.minor == 0:
		return refuse(400, errOldCoding)
	case h.coding == otherCoding:
		return refuse(501, errCoding)
	case h.coding == oddCoding:
		return refuse(400, errCoding)
	case h.badLength:
		return refuse(400, errLength)
	case h.coding == chunked:
		req.Length = message.Unknown
	default:
		req.Length = h.length
	}
	return nil
}

// switching is the Upgrade of RFC 9110 section 7.8. A request with a body
// cannot ask for one, and protocols that carry requests of their own are
// never asked for, since nobody would look at those.
func (h *requestHead) switching(req *message.Request) *message.Error {
	if !h.upgrading || h.upgrade == nil || h.minor == 0 || req.Length != 0 || carriesRequests(h.upgrade) {
		return nil
	}
	if message.EqualFold(h.upgrade, "websocket") {
		if err := checkWebSocket(req); err != nil {
			return err
		}
	}
	req.Upgrade = h.upgrade
	return nil
}

func carriesRequests(protocol []byte) bool {
	name, _, _ := bytes.Cut(protocol, []byte{'/'})
	for _, n := range [...]string{"h2c", "h2", "h3", "http", "tls"} {
		if message.EqualFold(name, n) {
			return true
		}
	}
	return tokenEnd(name, 0) != len(name)
}

// checkWebSocket checks what RFC 6455 section 4.2.1 asks of a client: a VM
// that answers anything but 101 must not find itself behind a tunnel.
func checkWebSocket(req *message.Request) *message.Error {
	keys, versions, key, version := 0, 0, []byte(nil), []byte(nil)
	for _, f := range req.Header.All() {
		switch f.ID {
		case message.SecWebSocketKey:
			keys, key = keys+1, f.Value
		case message.SecWebSocketVersion:
			versions, version = versions+1, f.Value
		}
	}
	switch {
	case versions == 1 && string(version) != "13":
		return refuse(426, errSocketVer)
	case versions != 1 || keys != 1 || string(req.Method) != "GET" || !isNonce(key):
		return refuse(400, errSocketKey)
	}
	return nil
}

// isNonce reports whether key is 16 bytes in base64.
func isNonce(key []byte) bool {
	if len(key) != 24 || key[22] != '=' || key[23] != '=' {
		return false
	}
	for _, c := range key[:22] {
		if !isDigit(c) && fold(c)-'a' >= 26 && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// persistent reports whether the client can send another request.
func (h *requestHead) persistent() bool {
	return !h.close && (h.minor == 1 || h.keepAlive)
}
