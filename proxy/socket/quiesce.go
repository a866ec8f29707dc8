package socket

import (
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long handshakes that have begun may take to end in Quiesce:
// more than a round trip to most of the world, less than the second after
// which a client repeats its SYN.
const settle = 250 * time.Millisecond

// Quiesce lets no new connection begin and returns once those that had begun
// are in the queue of Accept, which goes on meanwhile. Closing a listening
// socket resets every connection in its queue: a client that was told it is
// connected, and has sent its request, would lose it. A SYN that is dropped
// here is repeated a second later, and then finds the port closed, or whoever
// listens next.
//
// Close follows, once Accept has caught up.
func (l *Listener) Quiesce() error {
	var err error
	if e := l.conn.Control(func(fd uintptr) { err = dropSYN(int(fd)) }); e != nil {
		return e
	}
	if err != nil {
		return failed("setsockopt", err)
	}
	return l.rest(settle)
}

// dropSYN attaches a classic BPF program that sees each segment from its TCP
// header on (RFC 9293 section 3.1): byte 13 holds the flags, and only a SYN
// without ACK is dropped.
func dropSYN(fd int) error {
	const flags, syn, synACK = 13, 0x02, 0x12
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: flags},
		{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: synACK},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: syn, Jt: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}
