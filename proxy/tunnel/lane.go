package tunnel

import (
	"sync"
	"sync/atomic"

	"usher/proxy/socket"
)

const (
	scratchSize = 64 << 10
	smallSize   = 16 << 10
)

// lane is one loop with what its tunnels share.
type lane struct {
	loop    *socket.Loop
	open    *atomic.Int64     // of the Relay
	scratch [scratchSize]byte // of the loop's goroutine

	small, large sync.Pool // of *[]byte
}

// takeBuffer and freeBuffer lend memory for what an end does not take yet, in
// two sizes, since what is left of a read is often little.
func (l *lane) takeBuffer(n int) *[]byte {
	pool, size := &l.large, scratchSize
	if n <= smallSize {
		pool, size = &l.small, smallSize
	}
	if b, ok := pool.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, size)
	return &b
}

func (l *lane) freeBuffer(b *[]byte) {
	if len(*b) == smallSize {
		l.small.Put(b)
	} else {
		l.large.Put(b)
	}
}
