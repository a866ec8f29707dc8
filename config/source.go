package config

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// maxFile bounds what is read of one file; no useful one is near it.
const maxFile = 256 << 20

// source is the text of one file with its keys. It lives while sites are built
// from it, not longer: a file of 100,000 sites is large.
type source struct {
	file  string
	text  string
	tree  map[string]any
	keys  []toml.Key
	marks *marks
	lines []int32          // offset of each line
	index map[string]int32 // offset of each key, see path; built when first needed
}

// parse decodes a file. The Problem is the library's first error.
func parse(file, text string) (*source, *Problem) {
	s := &source{file: file, text: text, lines: lineStarts(text)}
	md, err := decode(text, &s.tree)
	if err != nil {
		return nil, s.syntax(err)
	}
	s.keys, s.marks = md.Keys(), scan(text)
	return s, nil
}

// decode turns what the library panics with on a bug of its own into an error:
// a file must never end the process.
func decode(text string, tree *map[string]any) (md toml.MetaData, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("not understood: %v", r)
		}
	}()
	return toml.Decode(text, tree)
}

func (s *source) syntax(err error) *Problem {
	p := &Problem{Position: Position{s.file, 1, 1}, Message: err.Error()}
	if pe := (toml.ParseError{}); errors.As(err, &pe) {
		p.Position = s.at(int32(bomLength(s.text) + pe.Position.Start))
		p.Message = "syntax: " + strings.TrimPrefix(pe.Message, "toml: ")
	}
	return p
}

func lineStarts(text string) []int32 {
	lines := make([]int32, 1, 1+strings.Count(text, "\n"))
	for at := 0; ; {
		n := strings.IndexByte(text[at:], '\n')
		if n < 0 {
			return lines
		}
		at += n + 1
		lines = append(lines, int32(at))
	}
}

// at is the position of an offset; columns count characters.
func (s *source) at(offset int32) Position {
	offset = max(0, min(offset, int32(len(s.text))))
	line := sort.Search(len(s.lines), func(i int) bool { return s.lines[i] > offset })
	before := strings.TrimPrefix(s.text[s.lines[line-1]:offset], "\ufeff")
	return Position{s.file, line, 1 + utf8.RuneCountInString(before)}
}

// own returns the parts of the i-th key that stand at its place, which are the
// last ones of its path.
func (s *source) own(i int) []part {
	if i >= len(s.marks.ends) {
		return nil
	}
	own := s.marks.key(i)
	return own[max(0, len(own)-len(s.keys[i])):]
}

// offset is where the part of a path with the given index stands in key i.
func (s *source) offset(i, index int) int32 {
	own := s.own(i)
	if len(own) == 0 {
		return 0
	}
	return own[max(0, index-(len(s.keys[i])-len(own)))].offset
}

// find is the position of a key, or of the nearest one above it that the file
// spells out.
func (s *source) find(path []string) Position {
	if s.index == nil {
		s.index = make(map[string]int32, len(s.keys))
		s.eachPart(nil, func(path []string, p part) {
			if k := joined(path); s.index[k] == 0 {
				s.index[k] = p.offset + 1 // 0 is none
			}
		})
	}
	for n := len(path); n > 0; n-- {
		if at := s.index[joined(path[:n])]; at > 0 {
			return s.at(at - 1)
		}
	}
	return Position{s.file, 1, 1}
}

// joined is a path as a map key; no TOML key holds a NUL without an escape.
func joined(path []string) string { return strings.Join(path, "\x00") }
