package socket

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe finds out, as Dial does and with its errors, whether somebody listens
// at an address, but leaves no trace there: on TCP, the last packet of the
// handshake is put off and a reset sent in its place. The listening kernel
// drops the connection before its program is told of it, so that nobody has
// anything to accept or to log, and no end is left in TIME_WAIT. (A program
// that is a relay, or a kernel that is not Linux's, may still see a connection
// that is reset.)
func Probe(ctx context.Context, network, addr string) error {
	s, err := (&Dialer{probe: true}).dial(ctx, network, addr)
	if err != nil {
		return fmt.Errorf("probe %s %q: %w", network, addr, err)
	}
	return s.Abort()
}

// prepareProbe makes the kernel wait for data to send with the
// acknowledgement that completes the handshake.
func prepareProbe(fd int) error {
	return setOptions(fd, []option{{unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0}})
}
