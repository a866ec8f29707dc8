package h2

import (
	"hash/maphash"
	"slices"
	"strconv"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// encoder writes field lines in HPACK (RFC 7541). It indexes a field that it
// sees for the second time, and so costs next to nothing for those that every
// head repeats; its zero value, with a seed, is ready. mux.mu guards it.
type encoder struct {
	seed    maphash.Seed
	size    int                // of the dynamic table that the peer keeps
	told    bool               // the peer knows size
	emptied bool               // entries were given up that the peer still has
	used    int                // of size, by entries
	entries []entry            // ring of the newest in the peer's table; nil until the first
	newest  int                // position in entries
	count   int                // of those in use
	seen    [maxEntries]uint32 // hashes of the last fields that were not in the table
	next    uint               // in seen
}

// entry is one field of the dynamic table.
type entry struct {
	hash uint32
	name int // length
	text []byte
}

const (
	maxEntries    = 32
	entryOverhead = 32      // RFC 7541 section 4.1
	maxIndexed    = 1 << 10 // an entry that is larger would drive out too many
	maxPrefix     = 16      // of bytes that a field has besides its text
	firstDynamic  = 62      // index of the newest entry
	huffmanFrom   = 8       // shorter values gain too little by it
	literal       = 0x00    // without indexing; name in 4 bits
	incremental   = 0x40    // with incremental indexing; name in 6 bits
	sizeUpdate    = 0x20    // in 5 bits
	indexed       = 0x80    // in 7 bits
	statusName    = 8       // of the first status in the static table
	lengthName    = 28
)

func (e *encoder) init() {
	e.seed, e.size, e.told = maphash.MakeSeed(), headerTable, true
}

// limit obeys SETTINGS_HEADER_TABLE_SIZE of the peer. A table that was made
// smaller stays so.
func (e *encoder) limit(size uint32) {
	if int64(size) < int64(e.size) {
		e.size, e.told = int(size), false
		e.evict(0)
	}
}

// forget gives the memory of the table up.
func (e *encoder) forget() {
	e.emptied = e.emptied || e.count > 0
	e.entries, e.count, e.used = nil, 0, 0
	clear(e.seen[:])
}

// begin comes before the fields of a block: changes of the table's size are
// said there (RFC 7541 section 4.2).
func (e *encoder) begin(b []byte) []byte {
	if e.emptied {
		b = appendInt(b, sizeUpdate, 5, 0)
	}
	if e.emptied || !e.told {
		b = appendInt(b, sizeUpdate, 5, e.size)
	}
	e.emptied, e.told = false, true
	return b
}

// status appends ":status".
func (e *encoder) status(b []byte, status int) []byte {
	for i, known := range [...]int{200, 204, 206, 304, 400, 404, 500} {
		if status == known {
			return append(b, indexed|byte(statusName+i))
		}
	}
	b = append(b, literal|statusName, 3)
	return strconv.AppendInt(b, int64(status), 10)
}

// field appends one field, whose name is in lower case. Neither string is kept.
func (e *encoder) field(b []byte, name, value string) []byte {
	known := staticName(name)
	if unique>>known&1 != 0 || len(name)+len(value)+entryOverhead > min(maxIndexed, e.size) {
		return appendField(b, literal, 4, known, name, value)
	}
	h := e.hash(name, value)
	if at := e.find(h, name, value); at >= 0 {
		return appendInt(b, indexed, 7, firstDynamic+at)
	}
	if !slices.Contains(e.seen[:], h) {
		e.seen[e.next%maxEntries] = h
		e.next++
		return appendField(b, literal, 4, known, name, value)
	}
	e.add(h, name, value)
	return appendField(b, incremental, 6, known, name, value)
}

// hash is never 0.
func (e *encoder) hash(name, value string) uint32 {
	return uint32(maphash.String(e.seed, value)) + uint32(len(name)) | 1
}

// find is how many entries are newer than that of a field; below zero if there
// is none.
func (e *encoder) find(h uint32, name, value string) int {
	for age := range e.count {
		if n := &e.entries[(e.newest-age)&(maxEntries-1)]; n.hash == h && n.name == len(name) &&
			string(n.text[:n.name]) == name && string(n.text[n.name:]) == value {
			return age
		}
	}
	return -1
}

func (e *encoder) add(h uint32, name, value string) {
	if e.entries == nil {
		e.entries = make([]entry, maxEntries)
	}
	if e.count == maxEntries {
		e.drop()
	}
	e.evict(len(name) + len(value) + entryOverhead)
	e.newest = (e.newest + 1) & (maxEntries - 1)
	e.count++
	n := &e.entries[e.newest]
	n.hash, n.name, n.text = h, len(name), append(append(n.text[:0], name...), value...)
	e.used += len(n.text) + entryOverhead
}

// evict makes room as the peer does.
func (e *encoder) evict(room int) {
	for e.count > 0 && e.used+room > e.size {
		e.drop()
	}
}

// drop removes the oldest entry.
func (e *encoder) drop() {
	e.count--
	e.used -= len(e.entries[(e.newest-e.count)&(maxEntries-1)].text) + entryOverhead
}

// appendField appends a literal, with the index of its name if that is known.
func appendField(b []byte, kind byte, bits, known int, name, value string) []byte {
	b = appendInt(b, kind, bits, known)
	if known == 0 {
		b = appendText(b, name)
	}
	return appendText(b, value)
}

// appendInt appends an integer behind a prefix (RFC 7541 section 5.1).
func appendInt(b []byte, kind byte, bits, n int) []byte {
	most := 1<<bits - 1
	if n < most {
		return append(b, kind|byte(n))
	}
	b = append(b, kind|byte(most))
	for n -= most; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// appendText appends a string literal, in Huffman's code where that is shorter.
func appendText(b []byte, s string) []byte {
	if len(s) >= huffmanFrom {
		if n := hpack.HuffmanEncodeLength(s); n < uint64(len(s)) {
			return hpack.AppendHuffmanString(appendInt(b, 0x80, 7, int(n)), s)
		}
	}
	return append(appendInt(b, 0, 7, len(s)), s...)
}

// view is b as a string, for functions that keep nothing.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
