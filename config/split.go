package config

import (
	"errors"
	"fmt"
	"strings"
)

// splitCommand splits a command into words as a shell would: at spaces, outside
// of quotes; a backslash takes the meaning of the next character, in double
// quotes of ", \, $ and ` only. Nothing is expanded. What would need a shell is
// an error, so that nobody is surprised by words like "&&".
func splitCommand(text string) (words []string, err error) {
	s := splitter{rest: text}
	for s.begin() {
		word, err := s.word()
		if err != nil {
			return nil, err
		}
		words = append(words, word)
	}
	return words, checkWords(words)
}

// checkWords checks the words of a command.
func checkWords(words []string) error {
	switch {
	case len(words) == 0 || words[0] == "":
		return errors.New("names no program")
	case strings.Contains(strings.Join(words, ""), "\x00"):
		return errors.New("holds a NUL, which no program can be given")
	}
	return nil
}

type splitter struct{ rest string }

// begin skips spaces and reports whether a word follows.
func (s *splitter) begin() bool {
	for s.rest = strings.TrimLeft(s.rest, spaces); strings.HasPrefix(s.rest, "\\\n"); s.rest = strings.TrimLeft(s.rest[2:], spaces) {
	}
	return s.rest != ""
}

const (
	spaces    = " \t\r\n"
	operators = "|&;<>()`"
)

// word reads up to the next space.
func (s *splitter) word() (string, error) {
	var word strings.Builder
	for s.rest != "" && strings.IndexByte(spaces, s.rest[0]) < 0 {
		c := s.rest[0]
		s.rest = s.rest[1:]
		var err error
		switch {
		case c == '\\':
			err = s.escaped(&word)
		case c == '\'':
			err = s.single(&word)
		case c == '"':
			err = s.double(&word)
		case strings.IndexByte(operators, c) >= 0:
			err = fmt.Errorf("%q is for a shell, and none is used: quote it, or run sh -c '…'", string(c))
		default:
			word.WriteByte(c)
		}
		if err != nil {
			return "", err
		}
	}
	return word.String(), nil
}

// escaped takes the character after a backslash; a line end vanishes.
func (s *splitter) escaped(word *strings.Builder) error {
	if s.rest == "" {
		return errors.New(`ends in a backslash`)
	}
	if s.rest[0] != '\n' {
		word.WriteByte(s.rest[0])
	}
	s.rest = s.rest[1:]
	return nil
}

// single takes everything up to the closing quote.
func (s *splitter) single(word *strings.Builder) error {
	inner, rest, closed := strings.Cut(s.rest, "'")
	if !closed {
		return errors.New("a ' is not closed")
	}
	word.WriteString(inner)
	s.rest = rest
	return nil
}

// double is single with escapes.
func (s *splitter) double(word *strings.Builder) error {
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case c == '"':
			return nil
		case c == '\\' && s.rest != "" && strings.IndexByte("\"\\$`\n", s.rest[0]) >= 0:
			if err := s.escaped(word); err != nil {
				return err
			}
		default:
			word.WriteByte(c)
		}
	}
	return errors.New(`a " is not closed`)
}
