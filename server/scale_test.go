package server

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// newLargeEdge has n sites in its file and 100 more in an included one.
func newLargeEdge(b *testing.B, n int) *edge {
	b.Helper()
	var sites strings.Builder
	for i := range n {
		fmt.Fprintf(&sites, "\"s%d.test\" = \"10.%d.%d.%d:8080\"\n", i, i>>16, i>>8&255, i&255)
	}
	return newEdge(b, sites.String())
}

// include writes 100 sites of a version into sites.d.
func (e *edge) include(version int) {
	e.t.Helper()
	var sites strings.Builder
	sites.WriteString("[sites]\n")
	for i := range 100 {
		fmt.Fprintf(&sites, "\"i%d.test\" = \"10.0.%d.%d:80\"\n", i, version%250, i)
	}
	if err := os.WriteFile(e.path("sites.d/more.toml"), []byte(sites.String()), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

// BenchmarkReload100000 has one changed included file beside 100,000 sites.
func BenchmarkReload100000(b *testing.B) {
	e := newLargeEdge(b, 100_000)
	version := 0
	for b.Loop() {
		version++
		e.include(version)
		e.reload()
	}
}

// BenchmarkStart100000 is from the file to the answer of the first request.
func BenchmarkStart100000(b *testing.B) {
	for b.Loop() {
		newLargeEdge(b, 100_000).stop()
	}
}
