// Package tunnel relays bytes both ways between two ends.
//
// Between two bare sockets the relay is a struct in an event loop: a wire. It
// has no goroutine, no buffer and no pipe while nothing moves. What was read
// is written at once; only what the other end does not take yet is held, and
// nothing more is read meanwhile. A flow that has proved long goes through a
// pipe with splice(2), borrowed while bytes are in it.
//
// Where an end has no socket (TLS, a stream of a multiplexed protocol), two
// goroutines copy: a copier.
//
// Both keep half-closes, pass a reset on as a reset, and know only one limit,
// on idle time.
package tunnel
