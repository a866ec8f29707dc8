package h1

import (
	"io"

	"usher/proxy/socket"
)

// duplex is a connection after an upgrade; it implements message.Duplex.
type duplex struct {
	rw    io.ReadWriter
	wire  wire
	bare  *socket.Socket
	ahead []byte // read before the upgrade, comes first
}

func (d *duplex) Read(p []byte) (int, error) {
	if len(d.ahead) > 0 {
		n := copy(p, d.ahead)
		d.ahead = d.ahead[n:]
		return n, nil
	}
	n, err := d.rw.Read(p)
	if err == errUnannounced { // what a tunnel carries knows its own end
		err = io.EOF
	}
	return n, err
}

func (d *duplex) Write(p []byte) (int, error) { return d.rw.Write(p) }

// CloseWrite half-closes: with close_notify on TLS, else with FIN.
func (d *duplex) CloseWrite() error {
	if c, ok := d.rw.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return d.wire.CloseWrite()
}

func (d *duplex) Close() error {
	if c, ok := d.rw.(io.Closer); ok {
		return c.Close()
	}
	return d.wire.Close()
}

func (d *duplex) Abort(error) { d.wire.Abort() }

func (d *duplex) Socket() (*socket.Socket, []byte) {
	if d.bare == nil {
		return nil, nil
	}
	return d.bare, d.ahead
}
