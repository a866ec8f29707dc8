// Package h3 is HTTP/3 towards clients (RFC 9114), over quic-go and qpack,
// whose types stay here. quic-go does packets, TLS, flow control and streams;
// frames, field sections, limits and the life of an exchange are ours.
//
// A Server owns one UDP socket. Each connection has a goroutine that accepts
// request streams, and each stream a worker that reads the head, calls the
// handler and writes the answer. Bodies are pulled from the stream by whoever
// reads them: a VM that does not read holds up the windows of QUIC and nothing
// else. Small answers are gathered into one write.
//
// Field sections use the static table of QPACK only (RFC 9204 with a dynamic
// table of 0 bytes), so that no stream ever waits for another.
//
// # Memory of a connection
//
// A client may have at most 8 MiB of unread data on all streams together, and
// 1 MiB on one; a stream that nobody reads stays at 32 KiB, so that 100 of
// them leave the others their share. Heads hold at most 2 MiB. An answer holds
// 4 KiB, what is in flight is bounded by the congestion window.
//
// # Defences
//
// At most 100 streams are open, those whose handler still runs included.
// The budgets of resets and of frames that bring nothing are those of HTTP/2
// (package budget). Addresses are validated by Retry while many handshakes do
// not complete.
//
// # Early data
//
// GET, HEAD and OPTIONS are served from 0-RTT data with Early-Data: 1 (RFC
// 8470), everything else waits for the handshake.
package h3
