package fields

import "usher/proxy/message"

// Fault is why a section is refused.
type Fault string

func (f Fault) Error() string { return string(f) }

// The faults of a section.
const (
	ErrTooLarge   Fault = "header section over 64 KiB or 200 fields"
	ErrPseudo     Fault = "a pseudo-field that is unknown, missing, repeated or misplaced"
	ErrName       Fault = "a field name that is not a lower-case token"
	ErrValue      Fault = "a field value with a control byte"
	ErrHop        Fault = "a field that belongs to one connection"
	ErrTE         Fault = "TE other than trailers"
	ErrLength     Fault = "the Content-Length is not one decimal number"
	ErrMismatch   Fault = "the Content-Length differs from the DATA"
	ErrLongTarget Fault = "request target over 16 KiB"
	ErrTarget     Fault = "the :path is not an absolute path"
	ErrMethod     Fault = "the method is not a token of at most 32 bytes"
	ErrScheme     Fault = "the :scheme is neither http nor https"
	ErrHost       Fault = "the authority is not a host and port"
	ErrNoHost     Fault = "neither :authority nor Host"
	ErrAuthority  Fault = "the :authority differs from Host"
	ErrConnect    Fault = "CONNECT is not supported"
	ErrProtocol   Fault = "the :protocol is not supported"
	ErrSocketVer  Fault = "WebSocket version other than 13"
	ErrAccept     Fault = "the VM did not accept the WebSocket"
	ErrExpect     Fault = "an expectation other than 100-continue"
	ErrStatus     Fault = "the :status is not three digits"
)

// Refuse is the answer to a request that is understood and not served.
func Refuse(status int, why error) *message.Error {
	return &message.Error{Side: message.ClientSide, Status: status, Err: why}
}

// Malformed is a request that gets a stream error instead of an answer.
func Malformed(why error) *message.Error {
	return &message.Error{Side: message.ClientSide, Err: why}
}

// Refusal is an answer of our own, with the fields that its status needs.
func Refusal(status int) *message.Response {
	r := &message.Response{Status: status}
	switch status {
	case 405:
		r.Header.AddString("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	case 426:
		r.Header.AddString("sec-websocket-version", "13")
	}
	return r
}
