package h2

import "sync"

// Sizes of pooled buffers: a head, a TLS record, what gathers for a write.
const (
	smallBuffer  = 4 << 10
	mediumBuffer = 20 << 10
	largeBuffer  = 96 << 10
)

var smallPool, mediumPool, largePool sync.Pool

// take returns an empty buffer with room for n bytes; one over largeBuffer is
// not pooled.
func take(n int) []byte {
	switch {
	case n <= smallBuffer:
		if b, ok := smallPool.Get().(*[smallBuffer]byte); ok {
			return b[:0]
		}
		return make([]byte, 0, smallBuffer)
	case n <= mediumBuffer:
		if b, ok := mediumPool.Get().(*[mediumBuffer]byte); ok {
			return b[:0]
		}
		return make([]byte, 0, mediumBuffer)
	case n <= largeBuffer:
		if b, ok := largePool.Get().(*[largeBuffer]byte); ok {
			return b[:0]
		}
		return make([]byte, 0, largeBuffer)
	}
	return make([]byte, 0, n)
}

// give returns a buffer to its pool.
func give(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallPool.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case mediumBuffer:
		mediumPool.Put((*[mediumBuffer]byte)(b[:mediumBuffer]))
	case largeBuffer:
		largePool.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	}
}

// output gathers frames. It is an io.Writer for the Framer and for hpack. Each
// write has a buffer of the pool's, which is in the processor's cache where one
// of the connection's own would not be.
type output struct {
	b     []byte
	usual int // length of the last write
}

// grow makes room for n more bytes.
func (o *output) grow(n int) {
	if cap(o.b)-len(o.b) >= n {
		return
	}
	if o.b == nil {
		o.b = take(max(n, o.usual))
		return
	}
	larger := append(take(len(o.b)+n), o.b...)
	give(o.b)
	o.b = larger
}

func (o *output) Write(p []byte) (int, error) {
	o.grow(len(p))
	o.b = append(o.b, p...)
	return len(p), nil
}

// queue is the bytes of a body that have arrived and that nobody has read.
type queue struct {
	first, last *chunk
	size        int
}

type chunk struct {
	next *chunk
	r, w int
	b    [chunkSize]byte
}

const chunkSize = 16 << 10

var chunkPool sync.Pool

func takeChunk() *chunk {
	if c, ok := chunkPool.Get().(*chunk); ok {
		return c
	}
	return new(chunk)
}

func (c *chunk) give() {
	c.next, c.r, c.w = nil, 0, 0
	chunkPool.Put(c)
}

func (q *queue) append(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		if q.last == nil || q.last.w == chunkSize {
			q.extend()
		}
		n := copy(q.last.b[q.last.w:], p)
		q.last.w += n
		p = p[n:]
	}
}

func (q *queue) extend() {
	c := takeChunk()
	if q.last == nil {
		q.first = c
	} else {
		q.last.next = c
	}
	q.last = c
}

func (q *queue) read(p []byte) int {
	done := 0
	for done < len(p) && q.first != nil {
		c := q.first
		n := copy(p[done:], c.b[c.r:c.w])
		c.r += n
		done += n
		if c.r == c.w {
			q.drop()
		}
	}
	q.size -= done
	return done
}

// drop removes the first chunk.
func (q *queue) drop() {
	c := q.first
	if q.first = c.next; q.first == nil {
		q.last = nil
	}
	c.give()
}

func (q *queue) clear() {
	for q.first != nil {
		q.drop()
	}
	q.size = 0
}
