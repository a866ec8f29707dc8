package h1

import (
	"io"
	"time"

	"usher/proxy/socket"
)

// wire is what a connection needs of its socket beside bytes. A *socket.Socket
// is one; tests of timeouts bring their own.
type wire interface {
	SetReadDeadline(time.Time) error
	ReadUntil(time.Time)
	SetWriteTimeout(time.Duration)
	CloseWrite() error
	CloseLinger(limit int64, d time.Duration) error
	Close() error
	Abort() error
	Watch(gone func())
	Idle() bool
	Quiet() bool
	Swift() bool
}

// What a lingering close, and a connection that is to be used again, reads of
// a body that nobody wanted.
const (
	lingerBytes = 64 << 10
	lingerTime  = time.Second
)

// bareSocket is rw as a socket, nil if TLS lies between.
func bareSocket(rw io.ReadWriter) *socket.Socket {
	s, _ := rw.(*socket.Socket)
	return s
}

// past is a deadline that fails a waiting Read at once.
func past() time.Time { return time.Unix(1, 0) }

// closeNotify ends the sending side of TLS, so that what was sent is known to
// be complete.
func closeNotify(rw io.ReadWriter, bare *socket.Socket) {
	if bare != nil {
		return
	}
	if t, ok := rw.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
}
