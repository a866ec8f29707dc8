package h1

import (
	"math"

	"usher/proxy/message"
)

// coding is what Transfer-Encoding said.
type coding uint8

const (
	noCoding coding = iota
	chunked
	otherCoding // a coding that exists, but not ours to undo
	oddCoding   // anything else: the shapes of request smuggling
)

// facts is what the framing and connection fields of a head say. They never
// get into a Header.
type facts struct {
	length     int64 // of the one Content-Length, if lengths is 1
	lengths    int
	badLength  bool
	coding     coding
	hosts      int
	host       []byte
	expect     bool // 100-continue
	badExpect  bool
	trailers   bool   // TE: trailers
	upgrade    []byte // the first Upgrade
	connection [4][]byte
	lists      int // used of connection
	options    int // in all of them
	overflow   bool
	close      bool // what Connection lists
	keepAlive  bool
	upgrading  bool
	names      bool // Connection lists names of fields
}

// note records a field with an ID up to ProxyAuthorization.
func (f *facts) note(l *message.Field) {
	switch l.ID {
	case message.ContentLength:
		f.noteLength(l.Value)
	case message.TransferEncoding:
		f.noteCoding(l.Value)
	case message.Host:
		f.host = l.Value
		f.hosts++
	case message.Connection:
		f.noteConnection(l.Value)
	case message.Upgrade:
		if f.upgrade == nil {
			f.upgrade, _ = element(l.Value)
		}
	case message.TE:
		f.noteTE(l.Value)
	case message.Expect:
		f.badExpect = f.badExpect || f.expect || !message.EqualFold(l.Value, "100-continue")
		f.expect = true
	}
}

// noteLength reads a decimal number below 2^63 (RFC 9110 section 8.6): no
// sign, no list, no space.
func (f *facts) noteLength(v []byte) {
	f.lengths++
	n, ok := decimal(v)
	f.length, f.badLength = n, f.badLength || !ok || f.lengths > 1
}

func decimal(v []byte) (n int64, ok bool) {
	for _, c := range v {
		d := int64(c - '0')
		if d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(v) > 0
}

// noteCoding accepts exactly one `chunked`.
func (f *facts) noteCoding(v []byte) {
	switch {
	case f.coding != noCoding:
		f.coding = oddCoding
	case message.EqualFold(v, "chunked"):
		f.coding = chunked
	default:
		f.coding = classifyCoding(v)
	}
}

// classifyCoding tells a list of registered codings, of which chunked can only
// be the last, from everything else.
func classifyCoding(list []byte) coding {
	kind := oddCoding
	for done := false; ; {
		c, rest := element(list)
		if c == nil {
			return kind
		}
		if done || !(registered(c) || message.EqualFold(c, "chunked") && kind == otherCoding) {
			return oddCoding
		}
		done = message.EqualFold(c, "chunked")
		kind, list = otherCoding, rest
	}
}

func registered(c []byte) bool {
	for _, name := range [...]string{"gzip", "deflate", "compress", "identity", "x-gzip", "x-compress"} {
		if message.EqualFold(c, name) {
			return true
		}
	}
	return false
}

func (f *facts) noteTE(list []byte) {
	for {
		c, rest := element(list)
		if c == nil {
			return
		}
		f.trailers = f.trailers || message.EqualFold(c, "trailers")
		list = rest
	}
}

// maxOptions is how many connection options may come: every field is compared
// with each of them.
const maxOptions = 64

// noteConnection reads the connection options (RFC 9110 section 7.6.1).
func (f *facts) noteConnection(list []byte) {
	if f.lists == len(f.connection) {
		f.overflow = true
		return
	}
	f.connection[f.lists] = list
	f.lists++
	for {
		c, rest := element(list)
		if c == nil {
			return
		}
		if f.options++; f.options > maxOptions {
			f.overflow = true
			return
		}
		switch {
		case message.EqualFold(c, "close"):
			f.close = true
		case message.EqualFold(c, "keep-alive"):
			f.keepAlive = true
		case message.EqualFold(c, "upgrade"):
			f.upgrading = true
		case !message.EqualFold(c, "te"):
			f.names = true
		}
		list = rest
	}
}

// named reports whether Connection lists the field, so that it ends here. It
// cannot list a field that usher acts on or writes.
func (f *facts) named(l *message.Field) bool {
	if !f.names || l.ID.Managed() {
		return false
	}
	for _, list := range f.connection[:f.lists] {
		for {
			c, rest := element(list)
			if c == nil {
				break
			}
			if equalFold(c, l.Name) {
				return true
			}
			list = rest
		}
	}
	return false
}

// dropNamed removes the fields that Connection lists.
func (f *facts) dropNamed(h *message.Header) {
	if f.names {
		h.DeleteFunc(func(l *message.Field) bool { return f.named(l) })
	}
}

// endToEnd reports whether a field goes into the Header; the others are facts.
func endToEnd(id message.ID) bool { return id == message.Other || id > message.ProxyAuthorization }
