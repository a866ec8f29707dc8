package h3

import (
	"errors"
	"io"
	"sync"

	"usher/proxy/message"
	"usher/proxy/socket"
)

// duplex is the bytes of a stream after an extended CONNECT (RFC 9220); it
// implements message.Duplex.
type duplex struct {
	e       *exchange
	writing sync.Mutex
	closed  bool // our direction; writing
}

// Read returns what the client sent as DATA, io.EOF after the end of its
// direction.
func (d *duplex) Read(p []byte) (int, error) {
	n, err := d.e.readBody(p)
	if n > 0 && err == io.EOF {
		err = nil // the next Read says so
	}
	return n, err
}

// Write sends p at once.
func (d *duplex) Write(p []byte) (int, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	switch {
	case d.closed:
		return 0, errState
	case len(p) == 0:
		return 0, nil
	}
	n, err := d.e.sendData(p)
	if err == nil {
		err = d.e.Flush()
	}
	return n, err
}

// CloseWrite ends our direction.
func (d *duplex) CloseWrite() error {
	d.writing.Lock()
	defer d.writing.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	if err := d.e.str.Close(); err != nil {
		return clientGone()
	}
	return nil
}

// Close ends the stream, with a reset of whatever direction is still open.
func (d *duplex) Close() error {
	d.e.str.CancelRead(codeNone)
	if d.e.str.Context().Err() == nil {
		d.e.str.CancelWrite(codeCancelled)
	}
	return nil
}

// Abort ends the stream as a TCP connection that was reset would (RFC 9114
// section 4.4).
func (d *duplex) Abort(err error) {
	d.e.str.CancelRead(codeConnect)
	d.e.str.CancelWrite(codeConnect)
	if clientsFault(err) && !errors.Is(err, message.ErrClientGone) {
		d.e.spoilt.Store(true)
	}
}

// Socket is nil: the bytes are in frames.
func (d *duplex) Socket() (*socket.Socket, []byte) { return nil, nil }
