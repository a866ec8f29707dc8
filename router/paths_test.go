package router

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	p := newPaths("/api", "/api/", "/api/v1/", "/static/", "/a", "/a/b", "/a/b/c", "/a%2Fb", "/über", "/x//y")
	for _, c := range []struct{ path, want string }{ // want is empty where ok is false
		{"/", "rest"},
		{"*", "rest"},
		{"/apix", "rest"},
		{"/api", "/api"},
		{"/api?x=/../a", "/api"},
		{"/api/", "/api/"},
		{"/api/x", "/api/"},
		{"/api//x", "/api/"},
		{"/api/v1", "/api/"},
		{"/api/v1/", "/api/v1/"},
		{"/api/v1/x/y?q", "/api/v1/"},
		{"/api/v12", "/api/"},
		{"/static", "rest"},
		{"/static/", "/static/"},
		{"/static?", "rest"},
		{"/a", "/a"},
		{"/a/", "/a"},
		{"/a/c", "/a"},
		{"/a/b", "/a/b"},
		{"/a/bc", "/a"},
		{"/a/b/cd", "/a/b"},
		{"/a/b/c/d", "/a/b/c"},
		{"/ab", "rest"},
		{"/A", "rest"},
		{"/a%2Fb", "/a%2Fb"},
		{"/a%2Fb/c", "/a%2Fb"},
		{"//a", "rest"},
		{"//a/b", "rest"},
		{"/a\\..\\api", "rest"},
		{"/a/..\\api", "/a"},
		{"/über/x", "/über"},
		{"/x/y", "rest"},
		{"/x//y/z", "/x//y"},

		// Another spelling of the same path, and the same route.
		{"/%61pi", ""},
		{"/api/%76%31", "/api/"},
		{"/api/%76%31/", ""},
		{"/api/%2e", "/api/"},
		{"/api/x/..", "/api/"},
		{"/api/./x", "/api/"},
		{"/api/v1/../v1/x", "/api/v1/"},
		{"/static/../static/x", "/static/"},
		{"/./", "rest"},
		{"/../../y", "rest"},
		{"/%7Euser", "rest"},
		{"/a/.b", "/a"},
		{"/a/...", "/a"},
		{"/a%", "rest"},
		{"/a/%", "/a"},
		{"/a/%zz/%4", "/a"},
		{"/a/%2561", "/a"},

		// The same, and another route.
		{"/static/..", ""},
		{"/static/../api/x", ""},
		{"/static/%2e%2E/api/x", ""},
		{"/static/.%2e/", ""},
		{"/static/%2e%2e%2fapi", "/static/"},
		{"/api/..", ""},
		{"/api/.", "/api/"},
		{"/api/../a", ""},
		{"/./api", ""},
		{"/y/../api", ""},
		{"/a/b/..", ""},
		{"/a/b%2fc", "/a"},
		{"/x/./y", "rest"},
		{"/x/..//a", "rest"},
		{"/x//../a", "rest"},
		{"/x//../../a", ""},
		{"/x/%2e//y", ""},

		{"", ""},
		{"?/", ""},
		{"api", ""},
		{"..//api", ""},
		{"%2Fapi", ""},
		{"*x", ""},
	} {
		if got, ok := p.Lookup([]byte(c.path)); ok != (c.want != "") || ok && got != c.want {
			t.Errorf("Lookup(%q) = %q, %v, want %q", c.path, got, ok, c.want)
		}
	}
}

// newPaths makes a table in which each prefix is its own value.
func newPaths(prefixes ...string) *Paths[string] {
	m := make(map[string]string)
	for _, p := range prefixes {
		m[p] = p
	}
	return NewPaths(m, "rest")
}

func TestPathsSlash(t *testing.T) {
	p := newPaths("/", "/a/")
	for path, want := range map[string]string{"/": "/", "/x/y": "/", "/a": "/", "/a/": "/a/", "//": "/", "*": "rest", "/.": "/"} {
		if got, ok := p.Lookup([]byte(path)); !ok || got != want {
			t.Errorf("Lookup(%q) = %q, %v, want %q", path, got, ok, want)
		}
	}
	if got, ok := newPaths().Lookup([]byte("/a/../%2e%2e")); got != "rest" || !ok {
		t.Errorf("a table without prefixes: %q, %v", got, ok)
	}
}

func TestNormalize(t *testing.T) {
	for path, want := range map[string]string{
		"":                                      "",
		"*":                                     "*",
		"/":                                     "/",
		"/a/b/c/./../../g":                      "/a/g", // RFC 3986 section 5.2.4
		"/../a":                                 "/a",
		"/a/..":                                 "/",
		"/a/.":                                  "/a/",
		"/a//..":                                "/a/",
		"/a/b/../..":                            "/",
		"//..//../a":                            "/a",
		"/...":                                  "/...",
		"/%41%2d%2E%5f%7e%30":                   "/A-._~0",
		"/%2F%25%61%3a%2":                       "/%2F%25a%3a%2",
		"/%%61":                                 "/%a",
		"/%2%65":                                "/%2e",
		"/a\\..\\b":                             "/a\\..\\b",
		"mid/content=5/../6":                    "mid/content=5/../6",
		"/" + strings.Repeat("../", 1000) + "x": "/x",
	} {
		if got := Normalize([]byte("/kept"), []byte(path)); string(got) != "/kept"+want {
			t.Errorf("Normalize(%q) = %q, want %q", path, got, want)
		}
	}
}

// naive finds the longest prefix by trying them all.
func naive(prefixes []string, path string) string {
	best := "rest"
	for _, p := range prefixes {
		if path == p || strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/") {
			if best == "rest" || len(p) > len(best) {
				best = p
			}
		}
	}
	return best
}

var encoded = regexp.MustCompile(`%[0-9A-Fa-f]{2}`)

// cleaned is Normalize by the standard library, for paths on which package path
// agrees with RFC 3986. Names for the empty segments keep them apart.
func cleaned(p string) (string, bool) {
	const empty = "\x00empty"
	decoded := encoded.ReplaceAllStringFunc(p, func(octet string) string {
		c, _ := url.PathUnescape(octet)
		if url.PathEscape(c) != c || strings.Contains("$&+=:@", c) {
			return octet
		}
		return c
	})
	if strings.Contains(decoded, "\x00") || strings.HasPrefix(decoded, "//") {
		return "", false
	}
	segments := strings.Split(decoded, "/")
	for i, s := range segments {
		if s == "" && i > 0 && i < len(segments)-1 {
			segments[i] = empty
		}
	}
	clean := path.Clean(strings.Join(segments, "/"))
	if last := segments[len(segments)-1]; clean != "/" && slices.Contains([]string{"", ".", ".."}, last) {
		clean += "/"
	}
	return strings.ReplaceAll(clean, empty, ""), true
}

func FuzzPaths(f *testing.F) {
	for _, path := range []string{"/api/x", "/static/%2e%2e/api", "/a//../b", "/a/b/./c/..", "/a%2Fb?c", "//", "/%61/%2E./", "/a/b/../../../a"} {
		f.Add("/api /api/ /static/ /a /a/b /a%2Fb /a/b/c/", path)
	}
	f.Add("/ /a //", "/a/..")
	f.Fuzz(func(t *testing.T, list, path string) {
		prefixes := slices.DeleteFunc(strings.Fields(list), func(p string) bool { return p[0] != '/' || strings.Contains(p, "?") })
		got, ok := newPaths(prefixes...).Lookup([]byte(path))
		path, _, _ = strings.Cut(path, "?")
		if !strings.HasPrefix(path, "/") {
			if ok != (path == "*") || got != "rest" {
				t.Fatalf("Lookup(%q) = %q, %v", path, got, ok)
			}
			return
		}
		literal := naive(prefixes, path)
		normal := string(Normalize(nil, []byte(path)))
		if clean, known := cleaned(path); known && clean != normal {
			t.Fatalf("Normalize(%q) = %q, want %q", path, normal, clean)
		}
		same := literal == naive(prefixes, normal)
		if ok != same || ok && got != literal {
			t.Fatalf("Lookup(%q) among %q = %q, %v, want %q, %v", path, prefixes, got, ok, literal, same)
		}
	})
}
