package h1

import "sync"

// Sizes of pooled buffers: a request head; a response with a small body, and
// chunks; the largest request line and header section together; a body that
// has proven long, where every system call wakes the peer.
const (
	smallBuffer  = 4 << 10
	mediumBuffer = 16 << 10
	largeBuffer  = 96 << 10
	hugeBuffer   = 128 << 10
)

var smallPool, mediumPool, largePool, hugePool sync.Pool

// take returns an empty buffer with room for n bytes, at most hugeBuffer.
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
	if b, ok := hugePool.Get().(*[hugeBuffer]byte); ok {
		return b[:0]
	}
	return make([]byte, 0, hugeBuffer)
}

// give returns a buffer to its pool. One that append moved elsewhere has
// another capacity and is left to the collector.
func give(b []byte) {
	switch cap(b) {
	case smallBuffer:
		smallPool.Put((*[smallBuffer]byte)(b[:smallBuffer]))
	case mediumBuffer:
		mediumPool.Put((*[mediumBuffer]byte)(b[:mediumBuffer]))
	case largeBuffer:
		largePool.Put((*[largeBuffer]byte)(b[:largeBuffer]))
	case hugeBuffer:
		hugePool.Put((*[hugeBuffer]byte)(b[:hugeBuffer]))
	}
}
