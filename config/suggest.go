package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// known reports every key of the table that is none of its kind. An unknown key
// refuses the whole configuration, also inside a site.
func (t *table) known(kind tableKind) {
	names := keysOf(kind)
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if !slices.Contains(names, key) {
			t.unknown(key, kind)
		}
	}
}

func (t *table) unknown(key string, kind tableKind) {
	names := keysOf(kind)
	hint := didYouMean(key, names)
	if other, ok := home(key); ok && other != kind {
		hint = "; it belongs in " + string(other)
	} else if hint == "" {
		hint = "; known here: " + strings.Join(names, ", ")
	}
	if t.bare && (t.path[0] == "sites" || strings.HasPrefix(hint, "; known")) {
		hint += fmt.Sprintf("; the name %q would need quotes", t.path[1]+"."+key)
	}
	t.report.add("", t.at(key), "unknown key %q%s%s", key, t.where(), hint)
}

// where names the table in messages about its keys.
func (t *table) where() string {
	switch {
	case len(t.path) == 0:
		return ""
	case t.path[0] == "sites":
		return fmt.Sprintf(" in site %q", t.path[1])
	}
	if len(t.path) == 2 && isElement(t.path[1]) {
		return " in [[" + t.path[0] + "]]"
	}
	keys := slices.DeleteFunc(slices.Clone(t.path), isElement)
	return " in [" + strings.Join(keys, ".") + "]"
}

// didYouMean names the nearest of names, or nothing when none is near.
func didYouMean(word string, names []string) string {
	if best, ok := nearest(word, names); ok {
		return fmt.Sprintf(" (did you mean %q?)", best)
	}
	return ""
}

// nearest returns the name that takes the fewest changes to become word, case
// aside, unless that is more than half of it.
func nearest(word string, names []string) (best string, ok bool) {
	least := 1 + max(1, len(word)/2)
	for _, name := range names {
		if d := distance(strings.ToLower(word), name, least); d < least {
			best, least, ok = name, d, true
		}
	}
	if !ok { // one word of several, as in "kid" for "eab_kid"
		i := slices.IndexFunc(names, func(name string) bool { return slices.Contains(strings.Split(name, "_"), word) })
		if ok = i >= 0; ok {
			best = names[i]
		}
	}
	return best, ok
}

// distance is how many insertions, deletions, replacements and swaps of
// neighbours turn a into b; lengths that differ by limit or more are not looked
// at.
func distance(a, b string, limit int) int {
	if max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
