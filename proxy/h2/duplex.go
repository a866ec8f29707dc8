package h2

import (
	"io"

	"golang.org/x/net/http2"

	"usher/proxy/socket"
)

// duplex is the bytes of a stream after an extended CONNECT; it implements
// message.Duplex on either side.
type duplex struct{ *stream }

// Read returns what the peer sent as DATA, io.EOF after its END_STREAM.
func (d duplex) Read(p []byte) (int, error) {
	n, err := d.read(p)
	if n > 0 && err == io.EOF {
		err = nil // the next Read says so
	}
	return n, err
}

// Write sends p at once.
func (d duplex) Write(p []byte) (int, error) {
	n, err := d.sendData(p)
	if err == nil {
		d.m.mu.Lock()
		d.m.flush()
		d.m.mu.Unlock()
	}
	return n, err
}

// CloseWrite sends END_STREAM.
func (d duplex) CloseWrite() error {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if !d.finished {
		d.finish()
		d.m.flush()
	}
	return nil
}

// Close ends the stream, with a reset unless both directions have ended.
func (d duplex) Close() error {
	d.reset(http2.ErrCodeCancel, errFinished)
	return nil
}

// Abort ends the stream as a connection that was reset would (RFC 8441
// section 5).
func (d duplex) Abort(err error) {
	if err == nil {
		err = errFinished
	}
	d.reset(http2.ErrCodeCancel, err)
}

func (d duplex) reset(code http2.ErrCode, why error) {
	d.m.mu.Lock()
	defer d.m.mu.Unlock()
	d.m.abandon(d.stream, code, why)
	d.close()
	d.m.flush()
}

// Socket is nil: the bytes are in frames.
func (d duplex) Socket() (*socket.Socket, []byte) { return nil, nil }
