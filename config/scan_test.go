package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keysAt are the keys that the scanner found, each as it stands in the text.
func keysAt(src *source) []string {
	var found []string
	for i := range src.keys {
		own := src.own(i)
		if len(own) == 0 {
			found = append(found, "")
			continue
		}
		found = append(found, src.text[own[len(own)-1].offset:])
	}
	return found
}

// agree checks the scanner against the library: as many keys, and at the place
// of each the last part of its path.
func agree(t *testing.T, text string) {
	t.Helper()
	src, fault := parse("f.toml", text)
	if fault != nil {
		if fault.Line < 1 || fault.Column < 1 {
			t.Fatalf("no position: %v", fault)
		}
		return
	}
	if len(src.keys) != len(src.marks.ends) {
		t.Fatalf("library has %d keys, scanner %d, in %q", len(src.keys), len(src.marks.ends), text)
	}
	for i, at := range keysAt(src) {
		key := src.keys[i][len(src.keys[i])-1]
		switch {
		case at == "":
			t.Fatalf("key %q is nowhere, in %q", src.keys[i], text)
		case at[0] == '"' && (strings.Contains(key, `"`) || strings.Contains(at, `\`)):
			// escapes: the bytes differ
		case at[0] == '"' || at[0] == '\'':
			if !strings.HasPrefix(at[1:], key+at[:1]) {
				t.Fatalf("key %q is not at %.40q, in %q", src.keys[i], at, text)
			}
		case !strings.HasPrefix(at, key):
			t.Fatalf("key %q is not at %.40q, in %q", src.keys[i], at, text)
		}
	}
}

// tomls are the texts of the golden files.
func tomls(f testing.TB) (texts []string) {
	files, _ := filepath.Glob("../testdata/config/*/*.toml")
	for _, file := range append(files, "../config.example.toml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		texts = append(texts, string(data))
	}
	return texts
}

func FuzzScan(f *testing.F) {
	for _, text := range tomls(f) {
		f.Add(text)
	}
	for _, text := range []string{
		"a=1\nb.c=2\n[d]\ne=3\n[[f.g]]\nh=4",
		"a = [ {b=1}, # x\n {c.d=[{e=2}]} , ]\nf=1",
		"a = \"\"\"x\n\"y\" \\\"\"\"\"\"\"\nb = '''\n''''''''\nc=1",
		"\"a.b\".'c\"' = '#'\n[ \"x y\" . z ] # c\n\"\\u0041\" = \"\\\\\"\nk=1979-05-27 07:32:00Z",
		"a={}\nb={ }\nc=[]\nd=[[],[[]]]\n'' = 1\n\"\" . \"\"=2",
		"\xef\xbb\xbfa=1\r\nb=2\r\n[c]\r\n", "a = { b = 1,\n # c\n c = 2,\n}\n",
		"a=[\n1,\n'x,]',\n]\nb=-inf\nc=+1e5\nd=0x1f", "[a]\nb.c.d={e.f=1}\n[a.g]",
		"a", "[", "a=", "a=[", "a={", "a=\"", "a='''", "[[", "a={b", "\xff\xfea=1",
	} {
		f.Add(text)
	}
	f.Fuzz(agree)
}

// FuzzScanAlone checks that the scanner ends on what the library would refuse.
func FuzzScanAlone(f *testing.F) {
	for _, text := range []string{"a", "[", "a=", "a=[", "a={", "a=\"", "a='''", "[[", "a={b", "=]}", "a=]b=}", "\\"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range scan(text).parts {
			if int(p.offset) > len(text) {
				t.Fatalf("offset %d of %d", p.offset, len(text))
			}
		}
	})
}
