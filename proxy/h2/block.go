package h2

import (
	"golang.org/x/net/http2/hpack"

	"usher/proxy/fields"
)

// Limits of a header block.
const (
	maxEncoded      = 128 << 10 // as it arrives
	maxContinuation = 32
)

// block is a header block that is being read (RFC 9113 section 4.3).
type block struct {
	id      uint32
	end     bool // END_STREAM
	selfDep bool // the stream depends on itself
	frames  int
	encoded int
	section fields.Section
	dec     *hpack.Decoder
}

func (b *block) init() {
	// Beyond the limits the rest is only followed, for the decoder's table.
	b.dec = hpack.NewDecoder(headerTable, func(f hpack.HeaderField) {
		if !b.section.Add(f.Name, f.Value) {
			b.dec.SetEmitEnabled(false)
		}
	})
	b.dec.SetMaxStringLength(maxEncoded)
}

// begin readies b for the block of a stream.
func (b *block) begin(id uint32, end bool) {
	b.id, b.end, b.selfDep = id, end, false
	b.frames, b.encoded = 0, 0
	b.section.Reset()
	b.dec.SetEmitEnabled(true)
}

// write decodes a fragment. Empty fragments count too.
func (b *block) write(p []byte) error {
	b.frames++
	if b.encoded += len(p); b.encoded > maxEncoded || b.frames > 1+maxContinuation {
		return calm(errBlock)
	}
	if _, err := b.dec.Write(p); err != nil {
		return connError{compression, errHPACK}
	}
	return nil
}

// close ends the block.
func (b *block) close() error {
	if err := b.dec.Close(); err != nil {
		return connError{compression, errHPACK}
	}
	return nil
}

// done forgets the strings of a block that was handled.
func (b *block) done() { b.section.Reset() }

// rest gives up what is not needed between streams.
func (b *block) rest() {
	if cap(b.section.Lines) > 32 {
		b.section.Lines = nil
	}
}
