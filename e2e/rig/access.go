package rig

import (
	"encoding/json"
	"strings"
	"testing"
)

// Line is one line of the access log.
type Line map[string]any

// Text is a field as text, or "".
func (l Line) Text(key string) string {
	s, _ := l[key].(string)
	return s
}

// Number is a field as a number, or 0.
func (l Line) Number(key string) int {
	n, _ := l[key].(float64)
	return int(n)
}

// Lines is the access log so far; each line must be one JSON object.
func (u *Usher) Lines(t testing.TB) (lines []Line) {
	t.Helper()
	for _, s := range u.Access.Lines() {
		if s == "" {
			continue
		}
		var l Line
		if err := json.Unmarshal([]byte(s), &l); err != nil {
			t.Fatalf("access log line %q: %v", s, err)
		}
		lines = append(lines, l)
	}
	return lines
}

// Line waits for the first line that matches.
func (u *Usher) Line(t testing.TB, what string, match func(Line) bool) (found Line) {
	t.Helper()
	u.Access.Until(t, "line of "+what, func(text string) bool {
		for s := range strings.Lines(text) {
			var l Line
			if strings.HasSuffix(s, "\n") && json.Unmarshal([]byte(s), &l) == nil && match(l) {
				found = l
				return true
			}
		}
		return false
	})
	return found
}
