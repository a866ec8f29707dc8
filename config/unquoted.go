package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// unquoted reports hostnames that were written without quotes: TOML reads
// blog.example.com = "…" below [sites] as three nested tables. bare says that
// the name and what is below it were written as one key.
func (b *builder) unquoted(name string, value any, bare bool) bool {
	if !bare {
		return false
	}
	hosts := dottedNames(name, value, keysOf(inSite))
	for _, path := range hosts {
		b.report.quote([]string{"sites"}, path)
	}
	return len(hosts) > 0
}

// quote reports the labels of a hostname that stand below a table.
func (r *report) quote(table, labels []string) {
	host := strings.Join(labels, ".")
	pos := r.find(slices.Concat(table, labels)) // of the last label
	if before := len(host) - len(labels[len(labels)-1]); pos.Column > before {
		pos.Column -= before
	}
	r.problems = append(r.problems, Problem{pos, "",
		fmt.Sprintf("quote the hostname: \"%[1]s\"; without quotes TOML reads %[1]s as nested tables", host)})
}

// dottedNames collects the paths below a name that look like the rest of an
// unquoted one: keys that are none of known, nor nearly so. A name with a dot
// was quoted.
func dottedNames(name string, value any, known []string) [][]string {
	t, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	var found [][]string
	for _, key := range slices.Sorted(maps.Keys(t)) {
		if _, near := nearest(key, known); near || !label(key) {
			continue
		}
		below := dottedNames(key, t[key], known)
		for _, path := range below {
			found = append(found, append([]string{name}, path...))
		}
		if len(below) == 0 {
			found = append(found, []string{name, key})
		}
	}
	return found
}

// label reports whether a key can be one label of an unquoted hostname.
func label(key string) bool {
	return key != "" && !strings.ContainsFunc(key, func(r rune) bool {
		return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_')
	})
}
