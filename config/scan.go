package config

import "strings"

// part is one part of a key as it stands in the file: its offset, and whether
// it was quoted.
type part struct {
	offset int32
	quoted bool
}

// marks says where the keys of a file stand, in document order, which is the
// order of the library's MetaData.Keys. Each key has the parts that were
// written at its place: of "[a.b]" two, of a "c = 1" below it one.
type marks struct {
	parts  []part
	ends   []int32  // for each key, the end of its parts
	arrays []int32  // the keys that were written [[key]]
	inside []inside // the keys of tables that are elements of a list
}

// inside says that a key stands in a table that is an element of the list that
// another key has. at is where the element begins.
type inside struct{ key, owner, element, at int32 }

// key returns the parts of the i-th key.
func (m *marks) key(i int) []part {
	from := int32(0)
	if i > 0 {
		from = m.ends[i-1]
	}
	return m.parts[from:m.ends[i]]
}

// scan finds the keys of a text that the library accepted. It checks nothing:
// in another text it finds something, and always ends.
func scan(text string) *marks {
	s := &scanner{text: text, at: bomLength(text), found: &marks{}}
	none := inside{owner: -1}
	for s.blank(); s.at < len(s.text); s.blank() {
		if s.peek() == '[' {
			array := strings.HasPrefix(s.text[s.at:], "[[")
			s.skip("[")
			key := s.key(']')
			s.skip("]")
			if array {
				s.found.arrays = append(s.found.arrays, key)
			}
		} else {
			key := s.key('=')
			s.step(1)
			s.value(key, none)
		}
	}
	return s.found
}

// bomLength is how many bytes the library drops at the beginning.
func bomLength(text string) int {
	switch {
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return 2
	case strings.HasPrefix(text, "\xef\xbb\xbf"):
		return 3
	}
	return 0
}

type scanner struct {
	text  string
	at    int
	found *marks
}

// peek returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.at < len(s.text) {
		return s.text[s.at]
	}
	return 0
}

// step goes n bytes on, not beyond the end.
func (s *scanner) step(n int) { s.at = min(s.at+n, len(s.text)) }

func (s *scanner) skip(set string) {
	for s.at < len(s.text) && strings.IndexByte(set, s.text[s.at]) >= 0 {
		s.step(1)
	}
}

// blank skips white space, line ends and comments.
func (s *scanner) blank() {
	for s.skip(" \t\r\n"); s.peek() == '#'; s.skip(" \t\r\n") {
		s.until("\n")
	}
}

// until goes to the first byte of set, or to the end.
func (s *scanner) until(set string) {
	if n := strings.IndexAny(s.text[s.at:], set); n >= 0 {
		s.at += n
	} else {
		s.at = len(s.text)
	}
}

// key reads a dotted key up to its end byte, marks it and returns its number.
func (s *scanner) key(end byte) int32 {
	for s.skip(" \t."); s.at < len(s.text) && s.peek() != end; s.skip(" \t.") {
		before := s.at
		quote := s.peek()
		quoted := quote == '"' || quote == '\''
		s.found.parts = append(s.found.parts, part{offset: int32(s.at), quoted: quoted})
		if quoted {
			s.lineString(quote)
		} else {
			s.until(" \t.=]\n")
		}
		if s.at == before {
			s.step(1) // no key of an accepted text; go on all the same
		}
	}
	s.found.ends = append(s.found.ends, int32(len(s.found.parts)))
	return int32(len(s.found.ends) - 1)
}

// value skips the value of a key and marks the keys of inline tables in it. in
// is the element of a list that it stands in, or none.
func (s *scanner) value(key int32, in inside) {
	s.skip(" \t")
	switch c := s.peek(); c {
	case '"', '\'':
		s.anyString(c)
	case '[':
		s.step(1)
		element := inside{owner: key}
		for s.items(); s.at < len(s.text) && s.peek() != ']'; s.items() {
			element.at = int32(s.at)
			s.value(key, element)
			element.element++
		}
		s.step(1)
	case '{':
		s.step(1)
		for s.items(); s.at < len(s.text) && s.peek() != '}'; s.items() {
			inner := s.key('=')
			if in.owner >= 0 {
				s.found.inside = append(s.found.inside, inside{inner, in.owner, in.element, in.at})
			}
			s.step(1)
			s.value(inner, in)
		}
		s.step(1)
	default:
		before := s.at
		s.until(",]}#\r\n")
		if s.at == before {
			s.step(1) // as in key
		}
	}
}

// items skips what stands between the values of a list or an inline table.
func (s *scanner) items() {
	for s.blank(); s.peek() == ','; s.blank() {
		s.step(1)
	}
}

// anyString skips a string of one or of several lines.
func (s *scanner) anyString(quote byte) {
	fence := strings.Repeat(string(quote), 3)
	if !strings.HasPrefix(s.text[s.at:], fence) {
		s.lineString(quote)
		return
	}
	for s.step(3); s.at < len(s.text) && !strings.HasPrefix(s.text[s.at:], fence); s.step(1) {
		if quote == '"' && s.peek() == '\\' {
			s.step(1)
		}
	}
	// Up to two quotes may stand before the closing three.
	for s.step(3); s.at < len(s.text) && s.text[s.at] == quote; s.step(1) {
	}
}

// lineString skips a string of one line.
func (s *scanner) lineString(quote byte) {
	for s.step(1); s.at < len(s.text) && s.text[s.at] != quote; s.step(1) {
		if quote == '"' && s.text[s.at] == '\\' {
			s.step(1)
		}
	}
	s.step(1)
}
