package h2

import (
	"io"
	"time"

	"usher/proxy/socket"
)

// wire is what a connection needs of its socket beside bytes. A *socket.Socket
// is one; tests of timeouts bring their own.
type wire interface {
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	SetWriteTimeout(time.Duration)
	CloseLinger(limit int64, d time.Duration) error
	Close() error
}

var _ wire = (*socket.Socket)(nil)

// What a lingering close reads so that the peer gets our last frames and no
// reset.
const (
	lingerBytes = 256 << 10
	lingerTime  = time.Second
)

// past is a deadline that fails a waiting Read at once.
func past() time.Time { return time.Unix(1, 0) }

// closeNotify ends the sending side of TLS, so that what was sent is known to
// be complete.
func closeNotify(rw io.ReadWriter) {
	if _, bare := rw.(*socket.Socket); bare {
		return
	}
	if t, ok := rw.(interface{ CloseWrite() error }); ok {
		t.CloseWrite()
	}
}
