package router

import (
	"fmt"
	"testing"
)

var sizes = []int{1, 1000, 100_000}

func tableOf(n int) *Table[int] {
	sites := map[string]int{"*": -1}
	for i := range n {
		sites[fmt.Sprintf("site-%d.example.com", i)] = i
		sites[fmt.Sprintf("*.tenant-%d.example.com", i)] = i
	}
	return NewTable(sites)
}

func BenchmarkTable(b *testing.B) {
	for _, n := range sizes {
		t := tableOf(n)
		for name, host := range map[string]string{
			"exact": "Site-%d.example.com:443", "wildcard": "WWW.Tenant-%d.example.com", "unknown": "www.site-%d.example.org",
		} {
			host := fmt.Appendf(nil, host, n/2)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var buf [MaxHost]byte
					key, err := Canonical(buf[:0], host)
					if _, ok := t.Lookup(key); err != nil || !ok {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func pathsOf(n int) *Paths[int] {
	prefixes := make(map[string]int)
	for i := range n {
		prefixes[fmt.Sprintf("/service-%d/api/", i)] = i
	}
	return NewPaths(prefixes, -1)
}

func BenchmarkPaths(b *testing.B) {
	for _, n := range []int{0, 1, 5, 500} {
		p := pathsOf(n)
		for name, path := range map[string]string{
			"hit": "/service-%d/api/users/42?page=2", "miss": "/service-%d/assets/app.js", "encoded": "/service-%d/api/a%%20b",
		} {
			path := fmt.Appendf(nil, path, n/2)
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, ok := p.Lookup(path); !ok {
						b.Fatal("refused")
					}
				}
			})
		}
	}
}

func BenchmarkNewTable(b *testing.B) {
	sites := make(map[string]int)
	for i := range 100_000 {
		sites[fmt.Sprintf("site-%d.example.com", i)] = i
	}
	for b.Loop() {
		NewTable(sites)
	}
}
