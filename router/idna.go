package router

import (
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// maxInput bounds the work on names that are not ASCII: no code point takes
// more than four bytes, nor less than one in the result.
const maxInput = 4*MaxHost + len(".")

// unicodeNames maps and checks names that are not ASCII as browsers do (UTS #46,
// non-transitional). What ASCII they may hold is checked afterwards, by the
// same rule as for other names.
var unicodeNames = idna.New(
	idna.MapForLookup(),
	idna.BidiRule(),
	idna.StrictDomainName(false),
	idna.CheckHyphens(false),
)

func ascii(b []byte) bool {
	for _, c := range b {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// toASCII turns a name without port into ASCII. What that holds is still to be
// checked.
func toASCII(name []byte) (result []byte, reason string) {
	if len(name) > maxInput {
		return nil, "too long"
	}
	if !utf8.Valid(name) {
		return nil, "not UTF-8"
	}
	s, err := unicodeNames.ToASCII(string(name))
	if err != nil {
		return nil, err.Error()
	}
	return []byte(s), ""
}
