package h3

import (
	"crypto/rand"

	"github.com/quic-go/quic-go"
)

// idLength is the length of our Connection IDs: the instance and random bytes
// enough that they never meet.
const idLength = 9

// connIDs makes Connection IDs (RFC 9000 section 5.1). The first byte says
// which instance has the connection, the same for all of them, so that nobody
// can tell one connection's IDs from another's by it.
type connIDs struct{ instance byte }

// GenerateConnectionID implements quic.ConnectionIDGenerator.
func (g connIDs) GenerateConnectionID() (quic.ConnectionID, error) {
	var id [idLength]byte
	id[0] = g.instance
	rand.Read(id[1:])
	return quic.ConnectionIDFromBytes(id[:]), nil
}

// ConnectionIDLen implements quic.ConnectionIDGenerator.
func (connIDs) ConnectionIDLen() int { return idLength }
