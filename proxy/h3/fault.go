package h3

import (
	"errors"

	"github.com/quic-go/quic-go"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// Error codes (RFC 9114 section 8.1, RFC 9204 section 6).
const (
	codeNone           = 0x100
	codeProtocol       = 0x101
	codeInternal       = 0x102
	codeStreamCreation = 0x103
	codeClosedCritical = 0x104
	codeUnexpected     = 0x105
	codeFrame          = 0x106
	codeExcessive      = 0x107
	codeID             = 0x108
	codeSettings       = 0x109
	codeNoSettings     = 0x10a
	codeRejected       = 0x10b
	codeCancelled      = 0x10c
	codeIncomplete     = 0x10d
	codeMessage        = 0x10e
	codeConnect        = 0x10f
	codeDecompression  = 0x200
	codeEncoderStream  = 0x201
	codeDecoderStream  = 0x202
)

// fault is why a message, a stream or a connection is refused.
type fault = fields.Fault

const (
	errFrame      fault = "a frame that ends in the middle or has the wrong size"
	errOrder      fault = "a frame that may not come here"
	errQPACK      fault = "the field section does not decode"
	errHeads      fault = "the heads of the open streams are too large together"
	errResets     fault = "too many streams were reset"
	errNoise      fault = "too many frames that bring nothing"
	errSlowHead   fault = "the request head took too long"
	errSlowBody   fault = "the request body came too slowly"
	errSlowRead   fault = "no progress of the response towards the client"
	errCutHead    fault = "the stream ended before a request head"
	errCritical   fault = "a critical stream was closed"
	errStreamType fault = "a stream that the client may not open, or not twice"
	errSettings   fault = "SETTINGS that are missing, repeated or invalid"
	errID         fault = "an identifier that is out of range"
	errTable      fault = "an instruction for a dynamic table of 0 bytes"
	errNoHead     fault = "the handler gave no answer"
	errFinished   fault = "the exchange has ended"
	errState      fault = "the response is past that point"
	errLong       fault = "the response body is longer than declared"
	errShort      fault = "the response body is shorter than declared"
	errIdle       fault = "no request for too long"
	errDrained    fault = "the server is draining"
)

// connError ends a connection (RFC 9114 section 8).
type connError struct {
	code quic.ApplicationErrorCode
	why  fault
}

func (e connError) Error() string { return string(e.why) }
func (e connError) Unwrap() error { return e.why }

// clientGone is the error of whatever a client has cancelled or left.
func clientGone() *message.Error {
	return &message.Error{Side: message.ClientSide, Err: message.ErrClientGone}
}

// clientFault is the error of a write that cannot reach the client.
func clientFault(err error) error {
	var known *message.Error
	if errors.As(err, &known) {
		return err
	}
	return clientGone()
}

// ours is a fault of the VM's response.
func ours(why fault) *message.Error {
	return &message.Error{Side: message.UsherSide, Status: 502, Err: why}
}
