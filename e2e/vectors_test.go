package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// vector is one line of a file in testdata: a name, a word that says what is
// wanted, and quoted bytes.
type vector struct {
	name, word string
	bytes      []string
}

// vectors reads a file of lines
//
//	name | word | "bytes" "more bytes"
//
// in which {n*text} stands for n times the text.
func vectors(t testing.TB, file string) (all []vector) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(b)) {
		l = strings.TrimSpace(l)
		if l == "" || l[0] == '#' {
			continue
		}
		f := strings.SplitN(l, "|", 3)
		if len(f) != 3 {
			t.Fatalf("%s: %q has no three parts", file, l)
		}
		all = append(all, vector{strings.TrimSpace(f[0]), strings.TrimSpace(f[1]), unquote(t, f[2])})
	}
	return all
}

func unquote(t testing.TB, s string) (parts []string) {
	t.Helper()
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		quoted, err := strconv.QuotedPrefix(s)
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		text, _ := strconv.Unquote(quoted)
		parts, s = append(parts, repeat(t, text)), s[len(quoted):]
	}
	return parts
}

// repeat puts n times the text for {n*text}.
func repeat(t testing.TB, s string) string {
	t.Helper()
	head, rest, ok := strings.Cut(s, "{")
	if !ok {
		return s
	}
	inner, tail, closed := strings.Cut(rest, "}")
	count, text, star := strings.Cut(inner, "*")
	n, err := strconv.Atoi(count)
	if !closed || !star || err != nil {
		return head + "{" + repeat(t, rest)
	}
	return head + strings.Repeat(text, n) + repeat(t, tail)
}
