package fields

import (
	"bytes"
	"unsafe"

	"usher/proxy/message"
)

const (
	maxMethod = 32
	maxTarget = 16 << 10
)

// Request is what the section of a request says beside its end-to-end fields.
// Its zero value is ready for one Parse. It points into the Section.
type Request struct {
	method, scheme, authority, path, protocol *string // the pseudo-fields, nil if absent
	host                                      *string
	length                                    int64
	measured                                  bool // there was a Content-Length
	expect                                    bool
	badExpect                                 bool
	trailers                                  bool
	cookies                                   int
	cookieAt                                  int // of the first in the Header
	regular                                   bool
}

// Parse fills ex.Request but for its Scheme, which the connection knows, and
// its Body. Everything is copied into the exchange. Framing comes after it,
// unless Tunnel says that there is none.
func (r *Request) Parse(s *Section, ex *message.Exchange) *message.Error {
	if s.TooLarge {
		return Refuse(431, ErrTooLarge)
	}
	arena := ex.Scratch(s.text())
	for i := range s.Lines {
		l := &s.Lines[i]
		if l.pseudo() {
			if err := r.pseudo(l.Name, &l.Value); err != nil {
				return err
			}
			continue
		}
		r.regular = true
		var err *message.Error
		if arena, err = r.field(l.Name, trim(l.Value), arena, &ex.Request.Header); err != nil {
			return err
		}
	}
	if r.regularCount(s) > MaxFields {
		return Refuse(431, ErrTooLarge)
	}
	if r.cookies > 0 {
		arena = r.joinCookies(s, arena, &ex.Request.Header)
	}
	return r.judge(arena, &ex.Request)
}

// Tunnel reports an extended CONNECT (RFC 8441, RFC 9220): what follows the
// head is no body.
func (r *Request) Tunnel() bool { return r.protocol != nil }

// Length is the Content-Length, message.Unknown if there was none.
func (r *Request) Length() int64 {
	if !r.measured {
		return message.Unknown
	}
	return r.length
}

// Describe copies what the log wants to know of a request that is refused.
func (r *Request) Describe(t *message.Trace) {
	for _, f := range [...]struct {
		from *string
		to   *[]byte
	}{{r.method, &t.Method}, {r.path, &t.Path}, {r.authority, &t.Host}} {
		if f.from != nil {
			*f.to = []byte(*f.from)
		}
	}
}

func (r *Request) regularCount(s *Section) int {
	n := len(s.Lines)
	for _, p := range [...]*string{r.method, r.scheme, r.authority, r.path, r.protocol} {
		if p != nil {
			n--
		}
	}
	return n
}

// pseudo takes one pseudo-field (RFC 9113 section 8.3.1, RFC 9114 section
// 4.3.1).
func (r *Request) pseudo(name string, value *string) *message.Error {
	var at **string
	switch name {
	case ":method":
		at = &r.method
	case ":scheme":
		at = &r.scheme
	case ":authority":
		at = &r.authority
	case ":path":
		at = &r.path
	case ":protocol":
		at = &r.protocol
	}
	if at == nil || *at != nil || r.regular {
		return Malformed(ErrPseudo)
	}
	*at = value
	return nil
}

// bytesOf is s as a view, for functions that only look.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// keep appends s to the arena, which has room, and returns the copy.
func keep(arena []byte, s string) (longer, kept []byte) {
	n := len(arena)
	arena = append(arena, s...)
	return arena, arena[n:len(arena):len(arena)]
}

// field takes one regular field.
func (r *Request) field(name, value string, arena []byte, h *message.Header) ([]byte, *message.Error) {
	if !all(name, tokenL, nameH) {
		return arena, Malformed(ErrName)
	}
	if !isText(bytesOf(value)) {
		return arena, Malformed(ErrValue)
	}
	id := message.Classify(bytesOf(name))
	switch {
	case id == message.Cookie:
		if r.cookies++; r.cookies > 1 {
			return arena, nil
		}
		r.cookieAt = h.Len()
		h.AddField(id, cookieName, nil)
		return arena, nil
	case id != message.Other && id <= message.ProxyAuthorization:
		return arena, r.fact(id, value)
	}
	var kept, text []byte
	arena, kept = keep(arena, name)
	arena, text = keep(arena, value)
	h.AddField(id, kept, text)
	return arena, nil
}

var cookieName = []byte("cookie")

// fact takes a field that is about the connection or the framing, and so never
// gets into the Header.
func (r *Request) fact(id message.ID, value string) *message.Error {
	switch id {
	case message.Connection, message.KeepAlive, message.ProxyConnection, message.TransferEncoding, message.Upgrade:
		return Malformed(ErrHop)
	case message.TE:
		if !equalFold(value, "trailers") {
			return Malformed(ErrTE)
		}
		r.trailers = true
	case message.ContentLength:
		n, ok := decimal(value)
		if !ok || r.measured {
			return Malformed(ErrLength)
		}
		r.length, r.measured = n, true
	case message.Host:
		if r.host != nil {
			return Malformed(ErrAuthority)
		}
		r.host = &value
	case message.Expect:
		r.badExpect = r.badExpect || r.expect || !equalFold(value, "100-continue")
		r.expect = true
	}
	return nil
}

// joinCookies makes one field of the crumbs (RFC 9113 section 8.2.3, RFC 9114
// section 4.2.1).
func (r *Request) joinCookies(s *Section, arena []byte, h *message.Header) []byte {
	n := len(arena)
	for i := range s.Lines {
		if s.Lines[i].Name == "cookie" {
			if len(arena) > n {
				arena = append(arena, "; "...)
			}
			arena = append(arena, trim(s.Lines[i].Value)...)
		}
	}
	h.All()[r.cookieAt].Value = arena[n:len(arena):len(arena)]
	return arena
}

// judge decides what the complete head means.
func (r *Request) judge(arena []byte, req *message.Request) *message.Error {
	if err := r.shape(); err != nil {
		return err
	}
	if *r.method == "CONNECT" && r.protocol == nil {
		return Refuse(405, ErrConnect)
	}
	arena, err := r.target(arena, req)
	if err != nil {
		return err
	}
	if r.badExpect {
		return Refuse(417, ErrExpect)
	}
	req.AcceptTrailers = r.trailers
	if r.protocol != nil {
		return r.extended(arena, req)
	}
	_, req.Method = keep(arena, *r.method)
	return nil
}

// shape checks which pseudo-fields there are.
func (r *Request) shape() *message.Error {
	switch {
	case r.method == nil:
		return Malformed(ErrPseudo)
	case len(*r.method) > maxMethod || !all(*r.method, tokenL, methodH):
		return Malformed(ErrMethod)
	case *r.method == "CONNECT" && r.protocol == nil:
		if r.scheme != nil || r.path != nil || r.authority == nil {
			return Malformed(ErrPseudo)
		}
	case r.scheme == nil || r.path == nil || r.protocol != nil && (*r.method != "CONNECT" || r.authority == nil):
		return Malformed(ErrPseudo)
	}
	return nil
}

// target checks :scheme, :authority and :path. Host may repeat the authority,
// not contradict it.
func (r *Request) target(arena []byte, req *message.Request) ([]byte, *message.Error) {
	if !equalFold(*r.scheme, "https") && !equalFold(*r.scheme, "http") {
		return arena, Malformed(ErrScheme)
	}
	authority := r.authority
	switch {
	case authority == nil && r.host == nil:
		return arena, Refuse(400, ErrNoHost)
	case authority == nil:
		authority = r.host
	case r.host != nil && !equalFold(*authority, *r.host):
		return arena, Malformed(ErrAuthority)
	}
	switch {
	case !isHost(*authority):
		return arena, Malformed(ErrHost)
	case len(*r.path) > maxTarget:
		return arena, Refuse(414, ErrLongTarget)
	case !isTarget(*r.path) && (*r.path != "*" || *r.method != "OPTIONS"):
		return arena, Malformed(ErrTarget)
	}
	arena, req.Authority = keep(arena, *authority)
	arena, req.Path = keep(arena, *r.path)
	return arena, nil
}

// Framing finds the length of the body; end says that there is none.
func (r *Request) Framing(end bool, req *message.Request) *message.Error {
	switch {
	case end && r.length > 0:
		return Malformed(ErrMismatch)
	case end:
		req.Length = 0
	case r.measured:
		req.Length = r.length
	default:
		req.Length = message.Unknown
	}
	req.ExpectContinue = r.expect && req.Length != 0
	return nil
}

// extended is a request for another protocol, which becomes the GET with
// Upgrade of HTTP/1.1.
func (r *Request) extended(arena []byte, req *message.Request) *message.Error {
	switch {
	case r.measured || r.expect:
		return Malformed(ErrLength)
	case len(*r.protocol) > maxMethod || !all(*r.protocol, tokenL|1<<'/', methodH) || carriesRequests(*r.protocol):
		return Refuse(501, ErrProtocol)
	}
	_, req.Upgrade = keep(arena, *r.protocol)
	req.Method = methodGET
	if equalFold(*r.protocol, "websocket") {
		return webSocketKey(req)
	}
	return nil
}

var methodGET = []byte("GET")

// carriesRequests reports a protocol that carries requests of its own, which
// nobody would look at.
func carriesRequests(protocol string) bool {
	name, _, _ := bytes.Cut(bytesOf(protocol), []byte{'/'})
	for _, n := range [...]string{"h2c", "h2", "h3", "http", "tls"} {
		if message.EqualFold(name, n) {
			return true
		}
	}
	return len(name) == 0
}
