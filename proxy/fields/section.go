package fields

// Limits of a section.
const (
	MaxSize   = 64 << 10 // decoded, with 32 bytes for each field (RFC 9113 section 6.5.2, RFC 9114 section 4.2.2)
	MaxFields = 200      // without pseudo-fields
	maxPseudo = 5
	overhead  = 32
)

// Line is one decoded field line.
type Line struct{ Name, Value string }

// pseudo reports a pseudo-field.
func (l *Line) pseudo() bool { return len(l.Name) > 0 && l.Name[0] == ':' }

// Section is a decoded field section; its zero value is ready.
type Section struct {
	Lines    []Line
	Size     int  // in bytes, as MaxSize counts
	TooLarge bool // a limit was passed; what came after is not in Lines
}

// Add appends a line and reports false beyond the limits. The codec may then
// stop decoding, if its tables allow.
func (s *Section) Add(name, value string) bool {
	s.Size += len(name) + len(value) + overhead
	if s.TooLarge || s.Size > MaxSize || len(s.Lines) == MaxFields+maxPseudo {
		s.TooLarge = true
		return false
	}
	s.Lines = append(s.Lines, Line{name, value})
	return true
}

// Reset empties the section, forgets its strings and keeps its memory, unless
// that is much.
func (s *Section) Reset() {
	clear(s.Lines)
	s.Lines, s.Size, s.TooLarge = s.Lines[:0], 0, false
	if cap(s.Lines) > 64 {
		s.Lines = nil
	}
}

// text is how many bytes copies of all lines need at most, a "; " between
// cookies included.
func (s *Section) text() int { return s.Size - len(s.Lines)*(overhead-2) }
