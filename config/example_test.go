package config

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const example = "../config.example.toml"

// TestExample loads the example as it stands.
func TestExample(t *testing.T) {
	c, problems := new(Loader).Load(example)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c.StateDir != "../state" || len(c.Sites) != 2 {
		t.Errorf("state_dir %q, %d sites", c.StateDir, len(c.Sites))
	}
	for _, s := range c.Sites {
		if s.To[0].Scheme != Whoami || s.Certificate != CertLocal {
			t.Errorf("%s: %+v", s.Host, s)
		}
	}
	for _, listen := range append(c.Listen.HTTP, c.Listen.HTTPS...) {
		if !strings.HasPrefix(listen, "127.0.0.1:8") {
			t.Errorf("%s is not an unprivileged port of loopback", listen)
		}
	}
}

// uncommented is the example with every option in it.
func uncommented(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(example)
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(`(?m)^#(["\[a-z])`).ReplaceAllString(string(text), "$1")
}

// TestExampleOptions uncomments every option: all must be known and their
// values good, and those of [timeouts] must be the defaults.
func TestExampleOptions(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	text := uncommented(t)
	write(t, file, text)
	_, problems := new(Loader).Load(file)
	for _, p := range problems {
		if !strings.HasSuffix(p.Message, "no such file or directory") {
			t.Error(p)
		}
	}
	write(t, file, regexp.MustCompile(`(?m)^.*(ca_file|token_file|error_pages|maintenance) = .*$`).ReplaceAllString(text, ""))
	c, problems := new(Loader).Load(file)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if c.Timeouts != defaultTimeouts() {
		t.Errorf("[timeouts] shows %+v", c.Timeouts)
	}
}

// TestManuals checks that the example and the manual have every key.
func TestManuals(t *testing.T) {
	manual, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	options := uncommented(t)
	for _, kind := range []tableKind{
		inTop, inListen, inAdmin, inMetrics, inLog, inACME, inFallback, inTimeouts, inVM, inDiscover, inSite, inCertificate,
		inBackend, inBalance, inSticky, inHealth, inForward, inForwardSNI,
	} {
		for _, key := range keysOf(kind) {
			word := regexp.MustCompile(`\b` + key + `\b`)
			if !word.MatchString(options) {
				t.Errorf("the example has no %s, of %s", key, kind)
			}
			if !strings.Contains(string(manual), "`"+key+"`") {
				t.Errorf("the manual has no `%s`, of %s", key, kind)
			}
		}
	}
}

// TestManualExamples loads every piece of a file that the manual shows.
func TestManualExamples(t *testing.T) {
	manual, err := os.ReadFile("../docs/config.md")
	if err != nil {
		t.Fatal(err)
	}
	pieces := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(manual, -1)
	if len(pieces) < 10 {
		t.Fatalf("%d pieces", len(pieces))
	}
	missing := []string{"no such file or directory", "to is missing: the backend that requests go to"} // to stands in another piece
	for _, piece := range pieces {
		_, problems := loadText(t, string(piece[1]))
		for _, p := range problems {
			if !slices.ContainsFunc(missing, func(end string) bool { return strings.HasSuffix(p.Message, end) }) {
				t.Errorf("%s\n%s", p, piece[1])
			}
		}
	}
}
