package config

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// golden loads every file of a directory below testdata/config and compares
// what show makes of it with the text file beside it.
func golden(t *testing.T, dir string, show func(*Config, []Problem) string) {
	kept, err := filepath.Abs("../testdata/config")
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	if err := os.CopyFS(work, os.DirFS(kept)); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(work, dir))
	t.Setenv("STATE_DIRECTORY", "/var/state/usher:/other")
	writePairs(t, "pki")
	files, _ := filepath.Glob("*.toml")
	if len(files) == 0 {
		t.Fatal("no files")
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			got := show(new(Loader).Load(file))
			name := filepath.Join(kept, dir, strings.TrimSuffix(file, ".toml")+".txt")
			if flag.Lookup("update").Value.String() == "true" {
				if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(name)
			if err != nil || got != string(want) {
				t.Errorf("got:\n%s\nwant (%v):\n%s", got, err, want)
			}
		})
	}
}

func TestMain(m *testing.M) {
	flag.Bool("update", false, "write the expected results anew")
	flag.Parse()
	os.Exit(m.Run())
}

// TestBad has a file for each kind of fault, with the messages beside it. A
// message of a single site begins with its name.
func TestBad(t *testing.T) {
	golden(t, "bad", func(c *Config, problems []Problem) string {
		var text strings.Builder
		if len(problems) == 0 {
			t.Error("no problem found")
		}
		for _, p := range problems {
			fmt.Fprintln(&text, p.Error())
			if p.Site != "" {
				fmt.Fprintf(&text, "    quarantines %s\n", p.Site)
			}
		}
		if (c == nil) != refuses(problems) {
			t.Errorf("config is %v", c)
		}
		if c != nil {
			for _, s := range c.Sites {
				fmt.Fprintf(&text, "%s: %s\n", s.Host, verdict(s))
			}
		}
		return text.String()
	})
}

func verdict(s *Site) string {
	if s.Fault != nil {
		return "quarantined at " + s.Fault.Position.String()
	}
	return "served"
}

// TestGood has the values of files without a problem.
func TestGood(t *testing.T) {
	golden(t, "good", func(c *Config, problems []Problem) string {
		for _, p := range problems {
			t.Error(p)
		}
		if c == nil {
			return ""
		}
		return dump(c)
	})
}

// dump shows a Config, without what is at its default in every file.
func dump(c *Config) string {
	var text strings.Builder
	if c.Admin == defaultAdmin() {
		c.Admin = "default"
	}
	sites, times, forwards := c.Sites, c.Timeouts, c.Forwards
	c.Sites, c.Forwards = nil, nil
	fields(&text, reflect.ValueOf(*c), "")
	for _, f := range forwards {
		fmt.Fprintf(&text, "forward %s\n", f.Listen)
		fields(&text, reflect.ValueOf(*f), "    ")
	}
	for _, s := range sites {
		fmt.Fprintf(&text, "site %s\n", s.Host)
		shown := *s
		shown.Host, shown.Settings = "", new(*s.Settings)
		if *s.Timeouts == times {
			shown.Timeouts = nil
		}
		if s.Balance == (Balance{Method: BalanceRandom2}) {
			shown.Balance = Balance{}
		}
		fields(&text, reflect.ValueOf(shown), "    ")
	}
	return text.String()
}

// fields prints what is not zero.
func fields(text *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		name, value := v.Type().Field(i).Name, v.Field(i)
		switch x := value.Interface().(type) {
		case Listen, Log, Timeouts:
			fmt.Fprintf(text, "%s%s\n", indent, name)
			fields(text, value, indent+"    ")
		case *Timeouts, *Health, *Sticky, *Discover:
			if !value.IsNil() {
				fmt.Fprintf(text, "%s%s\n", indent, name)
				fields(text, value.Elem(), indent+"    ")
			}
		case *Settings:
			fields(text, value.Elem(), indent)
		case []Backend:
			fmt.Fprintf(text, "%s%s %s\n", indent, name, backends(x))
		case []Path:
			for _, p := range x {
				fmt.Fprintf(text, "%spath %s %s\n", indent, p.Prefix, backends(p.To))
			}
		case map[string]VM:
			for _, key := range slices.Sorted(maps.Keys(x)) {
				vm := x[key]
				fmt.Fprintf(text, "%svm %s %s %s\n", indent, vm.Name, vm.Address, vm.Pos)
				vm.Name, vm.Address, vm.Pos = "", "", Position{}
				fields(text, reflect.ValueOf(vm), indent+"    ")
			}
		case []ForwardSNI:
			for _, s := range x {
				fmt.Fprintf(text, "%ssni %s\n", indent, s.Host)
				s.Host = ""
				fields(text, reflect.ValueOf(s), indent+"    ")
			}
		case []string:
			if len(x) > 0 {
				fmt.Fprintf(text, "%s%s %s\n", indent, name, shownWords(x))
			}
		default:
			if !value.IsZero() {
				fmt.Fprintf(text, "%s%s %v\n", indent, name, x)
			}
		}
	}
}

// shownWords shows where words begin and end, if that is not plain.
func shownWords(words []string) string {
	if strings.ContainsAny(strings.Join(words, ""), " \"") {
		return fmt.Sprintf("%q", words)
	}
	return fmt.Sprint(words)
}

func backends(list []Backend) string {
	var texts []string
	for _, b := range list {
		text := b.String()
		if b.VM != "" {
			text += "=" + b.Host
		}
		if b.Weight != 1 {
			text += fmt.Sprintf(" weight %d", b.Weight)
		}
		if b.Backup {
			text += " backup"
		}
		if b.MaxConns != 0 {
			text += fmt.Sprintf(" max_conns %d", b.MaxConns)
		}
		if b.SRV {
			text += " SRV"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}
