package message

import "unsafe"

// Field is one header or trailer field. Name and Value are views into memory
// that belongs to the Exchange (or to the backend connection that answers it)
// and die with it: clone to keep.
type Field struct {
	Name, Value []byte
	ID          ID // what Name is, so that nobody compares it twice
}

// Header is an ordered list of end-to-end fields; its zero value is ready.
// Framing and connection fields (Content-Length, Transfer-Encoding,
// Connection and what it names, Keep-Alive, TE, Upgrade, Expect, Host on a
// request) are never in it: the codecs read them into Request and Response
// and write their own.
type Header struct{ fields []Field }

// Add appends a field and classifies its name.
func (h *Header) Add(name, value []byte) { h.AddField(Classify(name), name, value) }

// AddField appends a field that is classified already.
func (h *Header) AddField(id ID, name, value []byte) {
	n := len(h.fields)
	if n == cap(h.fields) {
		h.fields = append(h.fields, Field{})
	}
	h.fields = h.fields[:n+1]
	f := &h.fields[n] // in place: a copy of a Field that was just made stalls the processor
	f.Name, f.Value, f.ID = name, value, id
}

// AddString appends a field from constants or strings that outlive the
// exchange. It copies nothing, so nobody may write into the slices of a Field.
func (h *Header) AddString(name, value string) { h.Add(view(name), view(value)) }

func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// All is the fields in order, a view that is valid until the next change.
func (h *Header) All() []Field { return h.fields }

// Len is the number of fields.
func (h *Header) Len() int { return len(h.fields) }

// Reset empties the header and keeps its memory.
func (h *Header) Reset() {
	clear(h.fields)
	h.fields = h.fields[:0]
}

// Get returns the value of the first field of a known name.
func (h *Header) Get(id ID) ([]byte, bool) {
	for i := range h.fields {
		if h.fields[i].ID == id {
			return h.fields[i].Value, true
		}
	}
	return nil, false
}

// Lookup returns the value of the first field called name, in any case.
func (h *Header) Lookup(name string) ([]byte, bool) {
	for i := range h.fields {
		if EqualFold(h.fields[i].Name, name) {
			return h.fields[i].Value, true
		}
	}
	return nil, false
}

// DeleteFunc removes the fields for which del is true and keeps the order.
func (h *Header) DeleteFunc(del func(*Field) bool) {
	first := 0
	for first < len(h.fields) && !del(&h.fields[first]) {
		first++
	}
	if first == len(h.fields) {
		return // as a rule
	}
	kept := h.fields[:first]
	for i := first + 1; i < len(h.fields); i++ {
		if !del(&h.fields[i]) {
			kept = append(kept, h.fields[i])
		}
	}
	clear(h.fields[len(kept):])
	h.fields = kept
}

// EqualFold reports whether name is s, without regard to ASCII case. It
// allocates nothing.
func EqualFold(name []byte, s string) bool {
	if len(name) != len(s) {
		return false
	}
	for i, c := range name {
		if d := s[i]; c != d && (c^d != 0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}
