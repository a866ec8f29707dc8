package h2

import (
	"golang.org/x/net/http2"

	"usher/proxy/fields"
	"usher/proxy/message"
)

// fault is why a message, a stream or a connection is refused.
type fault = fields.Fault

const (
	errPreface    fault = "the connection does not begin with the HTTP/2 preface and SETTINGS"
	errOrder      fault = "a frame that may not come here"
	errFrameSize  fault = "a frame of the wrong size"
	errStreamID   fault = "a frame for a stream that cannot have it"
	errStreamDone fault = "a frame for a stream that has ended"
	errSetting    fault = "a setting with an invalid value"
	errWindow     fault = "a flow-control window was overrun"
	errIncrement  fault = "a window increment that is zero or too large"
	errHPACK      fault = "the header block does not decode"
	errBlock      fault = "a header block over 128 KiB or 32 CONTINUATION frames"
	errPush       fault = "PUSH_PROMISE"
	errDependency fault = "a stream that depends on itself"
	errRefused    fault = "too many streams at once"
	errHeads      fault = "the heads of the open streams are too large together"
	errResets     fault = "too many streams were reset"
	errNoise      fault = "too many frames that bring nothing"
	errUnread     fault = "the peer reads none of the frames it asked for"
	errSlowHead   fault = "a header block took too long"
	errSlowBody   fault = "the request body came too slowly"
	errSlowRead   fault = "no progress of the response towards the client"
	errTrailer    fault = "a trailer section that does not end the stream"
	errNoHead     fault = "the handler gave no answer"
	errFinished   fault = "the exchange has ended"
	errState      fault = "the response is past that point"
	errLong       fault = "the response body is longer than declared"
	errShort      fault = "the response body is shorter than declared"
	errGoneAway   fault = "the connection takes no more requests"
	errSilent     fault = "no answer in time"
	errSwitched   fault = "a 101 over HTTP/2"
	errInterim    fault = "over 64 interim responses"
	errNoHeadVM   fault = "DATA before a response head"
	errCut        fault = "the connection ended inside an exchange"
)

// connError ends a connection with a GOAWAY (RFC 9113 section 5.4.1).
type connError struct {
	code http2.ErrCode
	why  error
}

func (e connError) Error() string { return e.code.String() + ": " + e.why.Error() }
func (e connError) Unwrap() error { return e.why }

func protocolError(why fault) error { return connError{http2.ErrCodeProtocol, why} }

func calm(why fault) error { return connError{http2.ErrCodeEnhanceYourCalm, why} }

// broken is a failure of a VM.
func broken(status int, why error) *message.Error {
	return &message.Error{Side: message.VMSide, Status: status, Err: why}
}
