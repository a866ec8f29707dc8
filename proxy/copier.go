package proxy

import (
	"runtime"
	"sync"
	"sync/atomic"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// Sizes of what bodies go through: the first suits most, the second makes fewer
// system calls, and wakes the peer less often, for a body that is long, and the
// third for one whose client has never made a write wait: it does not hold so
// much for long. With more, what is under way leaves the processor's cache. Who
// keeps up may stop all the same, so that only some have the third at once.
const (
	shortBuffer = 32 << 10
	longBuffer  = 128 << 10
	swiftBuffer = 256 << 10
	swiftMost   = 64
)

var swiftNow atomic.Int32 // how many have it

var (
	shortBuffers = sync.Pool{New: func() any { return new([shortBuffer]byte) }}
	longBuffers  = sync.Pool{New: func() any { return new([longBuffer]byte) }}
	swiftBuffers = sync.Pool{New: func() any { return new([swiftBuffer]byte) }}
)

// copier reads a body in pieces that are as large as what is there.
type copier struct {
	body   message.Body
	stream message.Stream
	ready  interface{ Ready() bool }                 // nil if body does not know
	try    interface{ TryRead([]byte) (int, error) } // likewise
	swift  interface{ Swift() bool }                 // likewise of the stream
	buf    []byte
}

// start takes a buffer for a body of some length, which may be Unknown.
func (c *copier) start(length int64) {
	c.ready, _ = c.body.(interface{ Ready() bool })
	c.try, _ = c.body.(interface{ TryRead([]byte) (int, error) })
	c.swift, _ = c.stream.(interface{ Swift() bool })
	if length > shortBuffer {
		c.take(longBuffer)
	} else {
		c.take(shortBuffer)
	}
}

func (c *copier) take(size int) {
	switch size {
	case shortBuffer:
		c.buf = shortBuffers.Get().(*[shortBuffer]byte)[:]
	case longBuffer:
		c.buf = longBuffers.Get().(*[longBuffer]byte)[:]
	case swiftBuffer:
		swiftNow.Add(1)
		c.buf = swiftBuffers.Get().(*[swiftBuffer]byte)[:]
	}
}

// grow is told that n bytes were read and written. After a full buffer others
// have their turn, so that what is under way of many bodies stays in the cache.
func (c *copier) grow(n int) {
	full, size := n == len(c.buf), len(c.buf)
	switch swift := c.swift != nil && c.swift.Swift(); {
	case size == swiftBuffer && !swift:
		size = longBuffer
	case full && size == shortBuffer:
		size = longBuffer
	case full && swift && size == longBuffer && swiftNow.Load() < swiftMost:
		size = swiftBuffer
	}
	if size != len(c.buf) {
		c.end()
		c.take(size)
	}
	if full {
		runtime.Gosched()
	}
}

// end gives the buffer back.
func (c *copier) end() {
	switch len(c.buf) {
	case shortBuffer:
		shortBuffers.Put((*[shortBuffer]byte)(c.buf))
	case longBuffer:
		longBuffers.Put((*[longBuffer]byte)(c.buf))
	case swiftBuffer:
		swiftNow.Add(-1)
		swiftBuffers.Put((*[swiftBuffer]byte)(c.buf))
	}
}

// read reads what is there, and if that is nothing flushes and waits.
func (c *copier) read() (n int, err error) {
	if c.try == nil {
		if c.ready == nil || !c.ready.Ready() {
			if err := c.stream.Flush(); err != nil {
				return 0, err
			}
		}
		return c.body.Read(c.buf)
	}
	for n < len(c.buf) && err == nil {
		var m int
		m, err = c.try.TryRead(c.buf[n:])
		n += m
	}
	if err != socket.ErrWait {
		return n, err
	}
	if n > 0 {
		return n, nil
	}
	if err := c.stream.Flush(); err != nil {
		return 0, err
	}
	return c.body.Read(c.buf)
}
