package router

import (
	"bytes"
	"testing"
)

func TestTable(t *testing.T) {
	sites := map[string]string{
		"example.com": "exact", "a.example.com": "a", "*.example.com": "wild", "*.b.example.com": "deep", "192.0.2.1": "ip4", "::1": "ip6",
	}
	table := NewTable(sites)
	wanted := map[string]string{
		"example.com": "exact", "a.example.com": "a", "b.example.com": "wild", "c.b.example.com": "deep", "192.0.2.1": "ip4", "::1": "ip6",
		"c.a.example.com": "", "d.c.b.example.com": "", "example.org": "", "com": "", "192.0.2.2": "", "::2": "", "": "", "*.example.com": "wild", "*": "",
		".example.com": "",
	}
	for key, want := range wanted {
		if got, ok := table.Lookup([]byte(key)); got != want || ok != (want != "") {
			t.Errorf("Lookup(%q) = %q, %v, want %q", key, got, ok, want)
		}
	}
	sites["*"] = "rest"
	if _, ok := table.Lookup(nil); ok {
		t.Error("the table changed with the map that it was made of")
	}
	table = NewTable(sites)
	for key, want := range wanted {
		if want == "" {
			want = "rest"
		}
		if got, ok := table.Lookup([]byte(key)); got != want || !ok {
			t.Errorf(`with "*": Lookup(%q) = %q, %v, want %q`, key, got, ok, want)
		}
	}
	before := table
	table = table.Changed(map[string]string{"*.b.example.com": "deeper", "com": "top", "example.com": "other"}, []string{"*", "*.example.com", "::1"})
	for key, want := range map[string]string{
		"a.example.com": "a", "c.b.example.com": "deeper", "com": "top", "example.com": "other", "b.example.com": "", "::1": "", "": "", "192.0.2.1": "ip4",
	} {
		if got, ok := table.Lookup([]byte(key)); got != want || ok != (want != "") {
			t.Errorf("changed: Lookup(%q) = %q, %v, want %q", key, got, ok, want)
		}
	}
	if got, _ := before.Lookup([]byte("c.b.example.com")); got != "deep" {
		t.Errorf("the table that was changed has %q", got)
	}
	if _, ok := NewTable[int](nil).Lookup([]byte("a.b")); ok {
		t.Error("an empty table has a value")
	}
}

func TestAllocations(t *testing.T) {
	table, paths := tableOf(1000), pathsOf(100)
	allocs := testing.AllocsPerRun(100, func() {
		for _, host := range []string{"site-7.example.com", "A.Tenant-7.Example.com.:8443", "192.0.2.1:80", "other.example"} {
			var in, buf [MaxHost]byte
			key, err := Canonical(buf[:0], in[:copy(in[:], host)])
			if err != nil {
				t.Fatal(err)
			}
			table.Lookup(key)
		}
		for _, path := range []string{"/service-7/api/x?y", "/", "/service-7/api", "*", "/service-7/api/%7Ex/../y"} {
			var in [64]byte
			paths.Lookup(in[:copy(in[:], path)])
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// TestWorst holds the work bounded on the longest input that a header section
// lets through.
func TestWorst(t *testing.T) {
	host := bytes.Repeat([]byte("\u00fc"), 32<<10)
	if _, err := Canonical(nil, host); err == nil {
		t.Error("a name of 64 KiB")
	}
	paths := newPaths("/", "/a", "/a/", "/a/a", "/a/a/")
	deep := bytes.Repeat([]byte("/a"), 32<<10)
	if got, ok := paths.Lookup(deep); !ok || got != "/a/a/" {
		t.Errorf("%q, %v", got, ok)
	}
	up := bytes.Repeat([]byte("/%2e%2E"), 10<<10)
	if got, ok := paths.Lookup(up); !ok || got != "/" {
		t.Errorf("%q, %v", got, ok)
	}
}
