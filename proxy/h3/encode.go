package h3

import (
	"net/http"
	"strconv"
	"time"
	"unsafe"

	"github.com/quic-go/qpack"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// startFrame appends the header of a frame whose length is not known yet.
func (o *output) startFrame(kind byte) (at int) {
	at = len(o.b)
	o.b = append(o.b, kind, 1<<6, 0)
	return at
}

// endFrame fills the length in, which takes two bytes as a rule.
func (o *output) endFrame(at int) {
	n := len(o.b) - at - 3
	if n < 1<<14 {
		o.b[at+1], o.b[at+2] = 1<<6|byte(n>>8), byte(n)
		return
	}
	o.b = append(o.b, 0, 0)
	copy(o.b[at+5:], o.b[at+3:])
	o.b[at+1], o.b[at+2], o.b[at+3], o.b[at+4] = 2<<6|byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
}

// stringOf is b as a view, for the encoder, which keeps nothing.
func stringOf(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

func (e *exchange) field(name, value string) {
	e.encoder.WriteField(qpack.HeaderField{Name: name, Value: value}) // an output takes everything
}

// fields encodes h, with names in lower case (RFC 9114 section 4.2).
func (e *exchange) fields(h *message.Header, skip func(*message.Field) bool) {
	var lower [64]byte
	for i := range h.All() {
		f := &h.All()[i]
		if skip != nil && skip(f) {
			continue
		}
		e.field(stringOf(lowered(lower[:0], f.Name)), stringOf(f.Value))
	}
}

// lowered is name itself if it is in lower case, else a copy that is, in b if
// that has room.
func lowered(b, name []byte) []byte {
	for i, c := range name {
		if c-'A' >= 26 {
			continue
		}
		b = append(b, name...)
		for ; i < len(b); i++ {
			if b[i]-'A' < 26 {
				b[i] |= 0x20
			}
		}
		return b
	}
	return name
}

// responseHead appends the HEADERS of a response.
func (e *exchange) responseHead(status int, r *message.Response, skip func(*message.Field) bool) {
	at := e.out.startFrame(frameHeaders)
	var digits [20]byte
	e.field(":status", stringOf(strconv.AppendInt(digits[:0], int64(status), 10)))
	e.fields(&r.Header, skip)
	if r.Status >= 200 {
		e.facts(r)
	}
	e.encoder.Close()
	e.out.endFrame(at)
}

// facts encodes the fields that a final head has from us.
func (e *exchange) facts(r *message.Response) {
	var buf [32]byte
	if _, dated := r.Header.Get(message.Date); !dated {
		e.field("date", stringOf(time.Now().UTC().AppendFormat(buf[:0], http.TimeFormat)))
	}
	if r.Length >= 0 && r.Status != 204 {
		e.field("content-length", stringOf(strconv.AppendInt(buf[:0], r.Length, 10)))
	}
	if p := fields.Priority(&r.Header); p != nil {
		if urgency, incremental, ok := fields.ParsePriority(p); ok {
			e.str.SetPriority(int8(urgency), incremental)
		}
	}
}

// trailerSection appends the HEADERS that end a response.
func (e *exchange) trailerSection(h *message.Header) {
	at := e.out.startFrame(frameHeaders)
	e.fields(h, nil)
	e.encoder.Close()
	e.out.endFrame(at)
}
