package tunnel

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"usher/proxy/socket"
)

const (
	scratchSize = 64 << 10
	smallSize   = 16 << 10
	pipeSize    = 128 << 10
	sparePipes  = 8 // kept in a lane while there are tunnels

	// maxPipes is how many a Relay has in use at once; more flows are copied.
	// An unprivileged user has 64 MiB of pipes before the kernel makes them
	// tiny, see pipe-user-pages-soft in pipe(7).
	maxPipes = 192
)

// lane is one loop with what its tunnels share.
type lane struct {
	loop    *socket.Loop
	open    *atomic.Int64     // of the Relay
	pipes   int               // that may be in use at once
	scratch [scratchSize]byte // of the loop's goroutine

	small, large sync.Pool // of *[]byte

	mu    sync.Mutex
	wires int    // mu
	used  int    // mu; pipes
	spare []pipe // mu
}

// pipe carries the bytes of a spliced flow through the kernel.
type pipe struct{ in, out int } // write end, read end

func (p pipe) close() {
	unix.Close(p.in)
	unix.Close(p.out)
}

// borrow returns an empty pipe, or false if there are enough in use or no
// descriptors: then the flow is copied.
func (l *lane) borrow() (pipe, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.used >= l.pipes {
		return pipe{}, false
	}
	if n := len(l.spare); n > 0 {
		p := l.spare[n-1]
		l.spare = l.spare[:n-1]
		l.used++
		return p, true
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return pipe{}, false
	}
	// Without the right to a larger one, the default size does.
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	l.used++
	return pipe{in: fds[1], out: fds[0]}, true
}

// giveBack takes a pipe that was borrowed. One that still holds bytes is of no
// use to anybody.
func (l *lane) giveBack(p pipe, empty bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	if empty && len(l.spare) < sparePipes && l.wires > 0 {
		l.spare = append(l.spare, p)
		return
	}
	p.close()
}

// enter and leave count the wires; without any, no pipe is kept.
func (l *lane) enter() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wires++
}

func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wires--; l.wires > 0 {
		return
	}
	for _, p := range l.spare {
		p.close()
	}
	l.spare = nil
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
