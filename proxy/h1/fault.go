package h1

import "usher/proxy/message"

// fault is why a message is refused.
type fault string

func (f fault) Error() string { return string(f) }

const (
	errLine       fault = "a line ends in a bare CR or LF, or holds a control byte"
	errFold       fault = "a folded line, or whitespace before a field name"
	errName       fault = "a field name that is not a token followed by a colon"
	errTooLarge   fault = "header section over 64 KiB"
	errTooMany    fault = "over 200 fields"
	errStart      fault = "the start line is not HTTP/1.1"
	errMethod     fault = "the method is not a token of at most 32 bytes"
	errTarget     fault = "the request target is not a URI"
	errEscape     fault = "the request target has a bad percent escape"
	errLongTarget fault = "request target over 16 KiB"
	errVersion    fault = "HTTP version not supported"
	errHosts      fault = "not exactly one Host"
	errHost       fault = "the Host is not a host and port"
	errAuthority  fault = "the authority of the target differs from Host"
	errConnect    fault = "CONNECT is not supported"
	errLength     fault = "the Content-Length is not one decimal number"
	errBoth       fault = "both Content-Length and Transfer-Encoding"
	errCoding     fault = "the Transfer-Encoding is not chunked"
	errOldCoding  fault = "Transfer-Encoding in HTTP/1.0"
	errExpect     fault = "an expectation other than 100-continue"
	errConnection fault = "over four Connection fields or 64 connection options"
	errSocketKey  fault = "not a WebSocket handshake"
	errSocketVer  fault = "WebSocket version other than 13"
	errChunk      fault = "the chunked body is malformed"
	errChunkExt   fault = "too many bytes in chunk extensions"
	errCutHead    fault = "the connection ended inside a head"
	errSwitched   fault = "a 101 that was not asked for"
	errInterim    fault = "over 64 interim responses"
	errSurplus    fault = "bytes that belong to no response"
	errEnded      fault = "the kept connection has ended"
	errSilent     fault = "no answer in time"
	errSlowHead   fault = "the request head took too long"
	errSlowBody   fault = "the request body came too slowly"
	errShort      fault = "the response body is shorter than declared"
	errLong       fault = "the response body is longer than declared"
	errNoHead     fault = "the handler gave no answer"
	errFinished   fault = "the exchange has ended"
	errCutBody    fault = "the connection ended inside a body"
)

// refuse is the answer to a malformed request.
func refuse(status int, why fault) *message.Error {
	return &message.Error{Side: message.ClientSide, Status: status, Err: why}
}

// broken is a failure of a VM.
func broken(status int, why error) *message.Error {
	return &message.Error{Side: message.VMSide, Status: status, Err: why}
}
