// Package h1 is HTTP/1.1 on byte slices (RFC 9112): Conn.Serve is the
// client's side, VM the backend's. Both are strict: a framing doubt is an
// error, never a guess.
//
// One parser serves both sides. lines.go cuts a header section into fields,
// facts.go collects what the framing and connection fields say, request.go and
// response.go judge it. framed.go reads a body (chunked.go its chunks) for
// either side. The parsers work on the bytes that have arrived so far and
// resume where they stopped; fields are views into the read buffer, which
// stays as it is until the exchange ends.
//
// Buffers, and everything else that a connection needs only while it has a
// request, come from pools: a connection that waits for its next request
// holds none of it. In steady state an exchange allocates nothing, and each
// side costs one read and one write system call for a small message.
package h1
