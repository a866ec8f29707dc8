// Package h2 is HTTP/2 on both sides (RFC 9113): Conn is a client's
// connection, ClientConn one to a VM. Frames are read by x/net's Framer and
// header blocks by its hpack; everything else is here, made for a proxy: no
// request object, no header map, no copy of a body but the one that gathers
// frames for a write, and an HPACK encoder that keeps nothing but hashes of
// what it has seen only once.
//
// mux.go is what both sides share: one reader goroutine per connection, its
// streams, and the frames to be written. A stream appends frames to the
// connection's output under its lock; whoever flushes first lets the others
// append theirs, then writes for everybody, outside the lock, and takes what
// was appended meanwhile into the next write. Who fills the output writes it
// at once. There is no writer goroutine to hand over to. schedule.go
// decides whose DATA is next when the client or the network is slower than
// the VMs (RFC 9218, with a floor of fairness).
//
// # Memory of a connection
//
// A stream may have 32 KiB of unread body, which is its initial window, and a
// connection lends its busy streams another 2 MiB together. Heads of open
// streams hold at most 2 MiB, frames to be written about 160 KiB, a header
// block that is still arriving 128 KiB. With 100 streams that is less than 8
// MiB, 10 MiB for a client that never acknowledges our SETTINGS and so keeps
// windows of 64 KiB, and nothing of it for an idle one; the fields that heads
// repeat, at most 4 KiB, are forgotten once nothing has happened for a while. The
// window of the connection as a whole is renewed as DATA arrives, not as it
// is read, so no stream waits for another's VM.
//
// # Defences
//
// At most 100 streams are open, and at most 100 handlers run, those of
// cancelled streams included. A connection ends with ENHANCE_YOUR_CALM when it
// had over 100 resets, whoever sent them, and these are over half of the
// streams opened within 10 s; when frames that bring nothing (SETTINGS, PING,
// PRIORITY, WINDOW_UPDATE, empty DATA, unknown ones) exceed a burst of 1,000
// plus what the traffic explains; and when a header block is over 128 KiB or
// 32 CONTINUATION frames.
package h2
