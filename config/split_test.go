package config

import (
	"slices"
	"strings"
	"testing"
)

// TestSplitCommand has what a shell makes of each command.
func TestSplitCommand(t *testing.T) {
	for text, want := range map[string][]string{
		"virsh start web1":            {"virsh", "start", "web1"},
		" \ta  b\r\n\tc ":             {"a", "b", "c"},
		`ssh host 'virsh start "x"'`:  {"ssh", "host", `virsh start "x"`},
		`a "b c"'d e'f`:               {"a", "b cd ef"},
		`a '' ""`:                     {"a", "", ""},
		`a b\ c \'d\" \\`:             {"a", "b c", `'d"`, `\`},
		`a "\"\\\$\` + "`" + `\n\'"`:  {"a", `"\$` + "`" + `\n\'`},
		`a '\n'`:                      {"a", `\n`},
		"a b\\\nc \\\n d":             {"a", "bc", "d"},
		"a \"b\\\nc\"":                {"a", "bc"},
		"$HOME *.txt ~ a=b #c {d} !e": {"$HOME", "*.txt", "~", "a=b", "#c", "{d}", "!e"},
		`a '&&' "|" \;`:               {"a", "&&", "|", ";"},
		"ä ☃ \u00a0b":                 {"ä", "☃", "\u00a0b"},
	} {
		if got, err := splitCommand(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q %v, want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":        "names no program",
		" \n":     "names no program",
		"\\\n":    "names no program",
		"'' a":    "names no program",
		"a 'b":    "a ' is not closed",
		`a "b`:    `a " is not closed`,
		`a "b\"`:  `a " is not closed`,
		`a "b\`:   `a " is not closed`,
		`a b\`:    "ends in a backslash",
		"a\x00":   "holds a NUL",
		"a&&b":    `"&" is for a shell`,
		"a | b":   `"|" is for a shell`,
		"a >b":    `">" is for a shell`,
		"a `b`":   "\"`\" is for a shell",
		"a $(b)":  `"(" is for a shell`,
		"a; b":    `";" is for a shell`,
		"( a )":   `"(" is for a shell`,
		"a <file": `"<" is for a shell`,
	} {
		if got, err := splitCommand(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q %v, want %q", text, got, err, want)
		}
	}
}

// FuzzSplitCommand checks that words come back as they were whichever way they
// are quoted.
func FuzzSplitCommand(f *testing.F) {
	for _, text := range []string{
		"virsh start web1", `ssh host 'virsh start "x"'`, `a b\ c`, `a "\"\\\$"`, "a b\\\nc", "a 'b", `a "`, "a && b", "\\", "''", "ä \u00a0",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		words, err := splitCommand(text)
		if err != nil {
			if len(words) > 0 && words[0] != "" && !strings.Contains(err.Error(), "NUL") {
				t.Fatalf("%q: %q with %v", text, words, err)
			}
			return
		}
		if len(words) == 0 || words[0] == "" {
			t.Fatalf("%q is no command: %q", text, words)
		}
		for _, quote := range []func(string) string{single, double, backslash} {
			var quoted []string
			for _, word := range words {
				quoted = append(quoted, quote(word))
			}
			again, err := splitCommand(strings.Join(quoted, " "))
			if err != nil || !slices.Equal(again, words) {
				t.Fatalf("%q: %q, quoted as %q: %q %v", text, words, quoted, again, err)
			}
		}
	})
}

func single(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }

func double(word string) string {
	return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, "$", `\$`, "`", "\\`").Replace(word) + `"`
}

// backslash quotes each byte; a line end has to be in quotes.
func backslash(word string) string {
	var quoted strings.Builder
	for i := range len(word) {
		if word[i] == '\n' {
			quoted.WriteString("'\n'")
			continue
		}
		quoted.WriteString(`\` + word[i:i+1])
	}
	if word == "" {
		return "''"
	}
	return quoted.String()
}
