package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// manySites is the short form of sites [from, to).
func manySites(from, to int) string {
	var text strings.Builder
	text.WriteString("[sites]\n")
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "\"site%06d.example.com\" = \"http://10.%d.%d.%d:8080\"\n", i, i>>16, i>>8&255, i&255)
	}
	return text.String()
}

func write(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkLoad is a cold load of 100,000 sites in one file.
func BenchmarkLoad(b *testing.B) {
	file := filepath.Join(b.TempDir(), "config.toml")
	write(b, file, manySites(0, 100_000))
	b.ReportAllocs()
	for b.Loop() {
		c, problems := new(Loader).Load(file)
		if len(problems) > 0 || len(c.Sites) != 100_000 {
			b.Fatal(problems)
		}
	}
}

// BenchmarkReload loads 100,000 sites in 100 included files, one of which
// changed.
func BenchmarkReload(b *testing.B) {
	dir := b.TempDir()
	file := filepath.Join(dir, "config.toml")
	write(b, file, `include = ["sites.d/*.toml"]`)
	for i := range 100 {
		write(b, filepath.Join(dir, "sites.d", fmt.Sprintf("%02d.toml", i)), manySites(i*1000, i*1000+1000))
	}
	var loader Loader
	loader.Load(file)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		write(b, filepath.Join(dir, "sites.d", "42.toml"), manySites(42_000, 43_000)+fmt.Sprintf("\"new%d.example.com\" = \"10.0.0.1\"\n", i))
		c, problems := loader.Load(file)
		if len(problems) > 0 || len(c.Sites) != 100_001 {
			b.Fatal(problems)
		}
	}
}
