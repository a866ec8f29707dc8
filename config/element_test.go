package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestElementPlaces finds keys in lists of tables, however they are written.
func TestElementPlaces(t *testing.T) {
	const text = `top = 1
[[f]]
a = 1
to = [{ x = 1, y.z = 2, y.w = 3 }, "s", { x = 3 },
  { list = [{ q = 1 }, { q = 2, in = { r = 1 } }] }]
[[f]]
to = [{ x = 4 }]
sub.a = 1
[f.sub.b]
c = 1
[[f.deep]]
d = 1
[[f.deep]]
d = 2
[f.more]
e = 1
[[f]]
[[f.deep]]
d = 3
[g]
to = { x = 1 }
list = [[{ x = 1 }], []]
`
	src, fault := parse("f.toml", text)
	if fault != nil {
		t.Fatal(fault)
	}
	for path, want := range map[string]string{
		"top": "1:1", "f": "2:3", "f 0": "2:3", "f 0 a": "3:1", "f 0 to": "4:1",
		"f 0 to 0": "4:7", "f 0 to 0 x": "4:9", "f 0 to 0 y": "4:16", "f 0 to 0 y z": "4:18", "f 0 to 0 y w": "4:27",
		"f 0 to 1": "4:1", "f 0 to 2": "4:41", "f 0 to 2 x": "4:43", "f 0 to 3 list": "5:5",
		"f 0 to 3 list 0 q": "5:15", "f 0 to 3 list 1 q": "5:26", "f 0 to 3 list 1 in r": "5:40",
		"f 1": "6:3", "f 1 to 0 x": "7:9", "f 1 sub": "8:1", "f 1 sub a": "8:5", "f 1 sub b": "9:8", "f 1 sub b c": "10:1",
		"f 1 deep": "11:5", "f 1 deep 0": "11:5", "f 1 deep 0 d": "12:1", "f 1 deep 1": "13:5", "f 1 deep 1 d": "14:1", "f 1 more e": "16:1",
		"f 2": "17:3", "f 2 deep 0 d": "19:1", "f 2 to": "17:3", "f 7 a": "2:3",
		"g to x": "21:8",
	} {
		for _, find := range []func([]string) Position{src.find, (&entry{file: "f.toml", places: src.places()}).find} {
			if p := find(steps(path)); fmt.Sprintf("%d:%d", p.Line, p.Column) != want {
				t.Errorf("%s is at %s, want %s", path, p, want)
			}
		}
	}
}

// steps is a path, in which numbers are elements of lists.
func steps(path string) []string {
	var all []string
	for _, s := range strings.Fields(path) {
		if strings.Trim(s, "0123456789") == "" {
			s = element(int(s[0] - '0'))
		}
		all = append(all, s)
	}
	return all
}

// TestElementIsNoKey checks that no key can be taken for an element.
func TestElementIsNoKey(t *testing.T) {
	if !isElement(element(12)) || slices.ContainsFunc([]string{"", "12", "#1", "a\x00"}, isElement) {
		t.Error("an element looks like a key")
	}
}
