package tls

import "encoding/binary"

// RFC 8446 sections 4 and 5.1.
const (
	recordHeader    = 5 // type, version (2), length (2)
	maxFragment     = 1 << 14
	maxRecords      = 64
	typeHandshake   = 22
	messageHeader   = 4 // type, length (3)
	typeClientHello = 1
)

// scanHello walks the records that b begins with. It returns the size of the
// ClientHello message, header included, when all of it is there, and 0 when
// more has to be read. It fails at the first byte that is wrong.
func scanHello(b []byte, limit int) (size int, err error) {
	var head [messageHeader]byte // of the message; it may be split as well
	have := 0
	for range maxRecords {
		length, err := recordLength(b, have > 0)
		if length == 0 || err != nil {
			return 0, err
		}
		fragment := b[recordHeader:min(len(b), recordHeader+length)]
		if have < messageHeader {
			copy(head[have:], fragment)
		}
		have += len(fragment)
		size, err := messageSize(head[:min(have, messageHeader)], limit)
		if err != nil || size > 0 && have >= size {
			return size, err
		}
		if len(fragment) < length {
			return 0, nil
		}
		b = b[recordHeader+length:]
	}
	return 0, badHello("in over 64 records")
}

// recordLength checks the record header that b begins with, as far as it is
// there. 0 means that it is not complete.
func recordLength(b []byte, within bool) (int, error) {
	switch {
	case len(b) > 0 && b[0] != typeHandshake && !within:
		return 0, ErrNotTLS
	case len(b) > 0 && b[0] != typeHandshake:
		return 0, badHello("another record within it")
	case len(b) > 1 && b[1] != 3:
		return 0, badHello("unknown record version")
	case len(b) < recordHeader:
		return 0, nil
	}
	length := int(binary.BigEndian.Uint16(b[3:]))
	if length == 0 || length > maxFragment {
		return 0, badHello("record of no valid length")
	}
	return length, nil
}

// messageSize checks the handshake header as far as it is there. 0 means that
// it is not complete.
func messageSize(head []byte, limit int) (int, error) {
	if len(head) > 0 && head[0] != typeClientHello {
		return 0, badHello("another handshake message")
	}
	if len(head) < messageHeader {
		return 0, nil
	}
	size := messageHeader + int(head[1])<<16 + int(head[2])<<8 + int(head[3])
	if size > limit {
		return 0, tooLarge(limit)
	}
	return size, nil
}

// joinRecords returns the message of size bytes that scanHello found in b. It
// copies nothing when that is in one record.
func joinRecords(b []byte, size int) []byte {
	if int(binary.BigEndian.Uint16(b[3:])) >= size {
		return b[recordHeader : recordHeader+size]
	}
	message := make([]byte, 0, size)
	for len(message) < size {
		end := recordHeader + int(binary.BigEndian.Uint16(b[3:]))
		wanted := min(end, recordHeader+size-len(message))
		message = append(message, b[recordHeader:wanted]...)
		b = b[min(end, len(b)):]
	}
	return message
}
