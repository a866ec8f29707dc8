// Package socket owns accepted and dialed stream descriptors.
//
// A Socket is in exactly one state at a time: raw (a bare non-blocking
// descriptor, read opportunistically), goroutine (registered with the
// runtime's poller on the first wait; Read and Write block a goroutine),
// parked (no goroutine, no buffer: a struct in the epoll set of a Loop until
// it becomes readable), or detached (the descriptor was handed to a tunnel).
//
// The state word of a Socket counts who uses the descriptor. Every system
// call on it is made between enter and leave, Close only forbids new ones,
// and whoever leaves last frees the descriptor: no call can meet a number that
// the kernel has given to another connection meanwhile.
package socket
