package h1

import (
	"io"
	"net"

	"usher/proxy/socket"
)

// Announced is s as the transport of a TLS connection to a VM. crypto/tls takes
// a FIN between two records for the end of the data, but anybody on the way can
// send one: here only a close_notify is an end (RFC 8446 section 6.1), so that
// a body that ends with the connection cannot be cut short unnoticed.
func Announced(s *socket.Socket) net.Conn { return announced{s} }

type announced struct{ *socket.Socket }

func (a announced) Read(p []byte) (int, error) {
	n, err := a.Socket.Read(p)
	if err == io.EOF {
		err = errUnannounced
	}
	return n, err
}

// errUnannounced is the end of a TLS connection without close_notify.
var errUnannounced error = unannounced{}

type unannounced struct{}

func (unannounced) Error() string { return "the TLS connection ended without close_notify" }
func (unannounced) Unwrap() error { return io.ErrUnexpectedEOF }
