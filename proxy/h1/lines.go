package h1

import "usher/proxy/message"

// Limits of a header or trailer section.
const (
	maxSection = 64 << 10
	maxFields  = 200
)

// step is what a parser that may lack bytes came to.
type step uint8

const (
	more  step = iota // the next line has not arrived completely
	field             // one field
	end               // the empty line
)

// lines cuts a header or trailer section into fields (RFC 9112 section 5).
type lines struct {
	at    int // the line to read next
	begin int // of the section
	count int
}

// next reads the field at the front into f. Its name and value are views into b.
func (l *lines) next(b []byte, f *message.Field) (got step, err error) {
	i := l.at
	if i-l.begin > maxSection {
		return more, errTooLarge
	}
	if i == len(b) {
		return more, nil
	}
	if b[i] == '\r' {
		return l.last(b)
	}
	colon := tokenEnd(b, i)
	if colon == len(b) {
		return more, l.incomplete(b)
	}
	if b[colon] != ':' || colon == i {
		return more, badName(b[i])
	}
	from := colon + 1
	for from < len(b) && (b[from] == ' ' || b[from] == '\t') {
		from++
	}
	cr := textEnd(b, from)
	if cr+1 >= len(b) && (cr == len(b) || b[cr] == '\r') {
		return more, l.incomplete(b)
	}
	if b[cr] != '\r' || b[cr+1] != '\n' {
		return more, errLine
	}
	l.at = cr + 2
	if l.count++; l.count > maxFields {
		return more, errTooMany
	}
	for cr > from && (b[cr-1] == ' ' || b[cr-1] == '\t') {
		cr--
	}
	f.Name, f.Value = b[i:colon:colon], b[from:cr:cr]
	f.ID = message.Classify(f.Name)
	return field, nil
}

// last reads the empty line.
func (l *lines) last(b []byte) (got step, err error) {
	switch i := l.at + 1; {
	case i == len(b):
		return more, l.incomplete(b)
	case b[i] != '\n':
		return more, errLine
	}
	l.at += 2
	if l.at-l.begin > maxSection {
		return more, errTooLarge
	}
	return end, nil
}

// incomplete is the limit for a line that has not ended.
func (l *lines) incomplete(b []byte) error {
	if len(b)-l.begin > maxSection {
		return errTooLarge
	}
	return nil
}

func badName(first byte) error {
	switch first {
	case ' ', '\t':
		return errFold
	case '\n', 0:
		return errLine
	}
	return errName
}
