// Package protopeer is a client of usher in each of the three versions of
// HTTP, so that one test can say what it wants of all of them: Dial gives a
// raw connection, on which streams carry exactly what they are told to, and
// NewTransport the client of a well-known library.
package protopeer

// Proto is a version of HTTP over TLS.
type Proto string

// The versions, as subtests are called.
const (
	H1 Proto = "h1"
	H2 Proto = "h2"
	H3 Proto = "h3"
)

// All is every version.
func All() []Proto { return []Proto{H1, H2, H3} }

// ALPN is its name in the handshake.
func (p Proto) ALPN() string {
	if p == H1 {
		return "http/1.1"
	}
	return string(p)
}
