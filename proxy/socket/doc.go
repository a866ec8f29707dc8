// Package socket owns accepted and dialed stream descriptors.
//
// A Socket waits in a Loop: an epoll set of edges that one goroutine looks at
// and that is itself waited on through the runtime's poller. It is registered
// on the first wait, because many short connections never wait, and once for
// its life: to read, to write, to watch for the end of the peer and to be parked
// are all told by the same events. Who reads or writes sleeps as a goroutine; a
// parked Socket has none, and no buffer, until it becomes readable.
//
// What the events said is remembered: nothing is tried that is known to fail,
// so that a wait costs no system call beside those of the Loop, which many
// sockets share. A Loop that has little to do stays awake for a moment where
// the answer of a VM is awaited. A deadline costs a timer only while somebody
// sleeps, and the limit of a parked Socket only room in its entry of the loop.
//
// The state word of a Socket counts who uses the descriptor. Every system
// call on it is made between enter and leave, Close only forbids new ones,
// and whoever leaves last frees the descriptor: no call can meet a number that
// the kernel has given to another connection meanwhile.
package socket
