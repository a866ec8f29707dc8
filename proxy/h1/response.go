package h1

import "usher/proxy/message"

// responseHead is the parser of one response head, like requestHead.
type responseHead struct {
	facts
	lines  lines
	minor  byte
	lined  bool
	status int
}

func (h *responseHead) reset() { *h = responseHead{} }

// parse reads a head from b into resp, which has a Status, a Header and, for a
// 101, an Upgrade then. What framing it means depends on the request, see
// bodyOf.
func (h *responseHead) parse(b []byte, resp *message.Response) (done bool, size int, err error) {
	if !h.lined {
		n, err := h.statusLine(b)
		if err != nil || n == 0 {
			return false, 0, err
		}
		h.lined, h.lines.at, h.lines.begin = true, n, n
		resp.Status = h.status
	}
	var f message.Field
	for {
		got, err := h.lines.next(b, &f)
		switch {
		case err != nil:
			return false, 0, err
		case got == more:
			return false, 0, nil
		case got == end:
			return true, h.lines.at, h.judge(resp)
		case endToEnd(f.ID) || f.ID == message.Host || f.ID == message.Expect:
			resp.Header.AddField(f.ID, f.Name, f.Value)
		default:
			h.note(&f)
		}
	}
}

// statusLine reads "HTTP/1.x SP 3DIGIT [SP reason] CRLF" (RFC 9112 section 4).
func (h *responseHead) statusLine(b []byte) (size int, err error) {
	const like = "HTTP/1.1 200"
	for i := 0; i < len(b) && i < len(like); i++ {
		if b[i] != like[i] && !(isDigit(like[i]) && isDigit(b[i])) {
			return 0, errStart
		}
	}
	if len(b) < len(like)+2 {
		return 0, nil
	}
	h.minor = b[7] - '0'
	h.status = int(b[9]-'0')*100 + int(b[10]-'0')*10 + int(b[11]-'0')
	if b[5] != '1' || h.minor > 1 || h.status < 100 || b[12] != ' ' && b[12] != '\r' {
		return 0, errStart
	}
	cr := textEnd(b, len(like))
	switch {
	case cr > maxTarget:
		return 0, errTooLarge
	case cr+1 >= len(b):
		return 0, nil
	case b[cr] != '\r' || b[cr+1] != '\n':
		return 0, errLine
	}
	return cr + 2, nil
}

// judge refuses doubtful framing (RFC 9112 section 6.3), also on a response
// that has no body.
func (h *responseHead) judge(resp *message.Response) error {
	switch {
	case h.lengths > 0 && h.coding != noCoding:
		return errBoth
	case h.badLength:
		return errLength
	case h.coding > chunked:
		return errCoding
	case h.coding == chunked && h.minor == 0:
		return errOldCoding
	case h.overflow:
		return errConnection
	}
	h.dropNamed(&resp.Header)
	if resp.Status == 101 && h.upgrading {
		resp.Upgrade = h.upgrade
	}
	return nil
}

// bodyOf is the framing of the body of a final response to a method.
func (h *responseHead) bodyOf(method []byte) (mode framing, length int64) {
	length = message.Unknown
	if h.lengths == 1 {
		length = h.length
	}
	switch {
	case h.status == 204:
		return noBody, 0
	case h.status == 304 || string(method) == "HEAD":
		return noBody, length
	case h.coding == chunked:
		return byChunks, length
	case length == 0:
		return noBody, 0
	case length > 0:
		return byLength, length
	}
	return byClose, length
}

// persistent reports whether the VM keeps the connection open.
func (h *responseHead) persistent() bool {
	return !h.close && (h.minor == 1 || h.keepAlive)
}
