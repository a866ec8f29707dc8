package tls

import (
	"fmt"
	"io"
)

// Alert is the description of a TLS alert (RFC 8446 section 6).
type Alert uint8

// The alerts that are sent before there is a handshake.
const (
	DecodeError      Alert = 50
	InternalError    Alert = 80
	UnrecognizedName Alert = 112
)

func (a Alert) String() string {
	switch a {
	case DecodeError:
		return "decode_error"
	case InternalError:
		return "internal_error"
	case UnrecognizedName:
		return "unrecognized_name"
	}
	return fmt.Sprintf("alert %d", uint8(a))
}

// WriteAlert writes a as one fatal alert in one plaintext record, in answer to
// a ClientHello. It does not close.
func WriteAlert(w io.Writer, a Alert) error {
	const typeAlert, fatal = 21, 2
	// TLS 1.2 is the version that every record claims to be (RFC 8446 section 5.1).
	_, err := w.Write([]byte{typeAlert, 3, 3, 0, 2, fatal, byte(a)})
	return err
}
