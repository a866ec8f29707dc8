package socket

import (
	"errors"
	"net"
	"os"
	"syscall"
)

// ErrWait is what TryRead fails with when there is nothing to read yet.
var ErrWait = errors.New("nothing to read yet")

// errBusy says that a Socket cannot be parked while somebody uses it.
var errBusy = errors.New("socket is in use")

// errLapsed says that a limit of a sleep has passed.
var errLapsed = errors.New("a limit has passed")

// closedError is what every use of a closed Socket, Listener or Loop fails
// with: it is both net.ErrClosed and os.ErrClosed.
type closedError struct{}

func (closedError) Error() string        { return "use of closed connection" }
func (closedError) Is(target error) bool { return target == net.ErrClosed || target == os.ErrClosed }

// Timeout and Temporary complete net.Error, which crypto/tls looks for.
func (closedError) Timeout() bool { return false }

// Temporary is false: closed is for good.
func (closedError) Temporary() bool { return false }

// failed names the system call that failed; a deadline or a closed socket
// pass as they are.
func failed(call string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return os.NewSyscallError(call, errno)
	}
	return err
}
